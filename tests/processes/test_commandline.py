"""``twistd mesh`` as a user meets it: its errors, and its end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import termios
from typing import Any

from tests.support.processes import ANYWHERE, TWISTD, Child, ProcessCase, readable

PROMPT = 5.0  # seconds in which a node with nothing to hand over ends, even on a busy machine
LOG_BURST = 5
SHARED = "two nodes use this key, and the one started later keeps it: give each an identity of its own"


def bound(listening: bool) -> socket.socket:
    """A socket bound to a port of loopback; unless it listens, connections are refused."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    if listening:
        taken.listen()
    return taken


class RefusedTests(ProcessCase):
    async def test_wrong_options_end_with_a_helpful_line_before_anything_listens(self) -> None:
        neither = "neither --port, --listen nor --peer: this node could never meet another"
        by_twistd = self.twistd("mesh")
        by_twist = self.run_module("twisted", "mesh")
        daemon = self.fork(TWISTD[-1], "mesh", "--port=0", "--stdio")
        self.assertEqual(await self.until_ended(by_twistd, by_twist, daemon), [1, os.EX_USAGE, 1])
        self.assertEqual(by_twistd.log, f"twistd mesh: {neither} (--help lists the options)\n")
        self.assertIn(f"Error: {neither}\n", by_twist.log)
        told = "--stdio and --print need the terminal: use twistd -n"
        self.assertEqual(daemon.log, f"twistd mesh: {told} (--help lists the options)\n")
        self.assertEqual(by_twistd.out + daemon.out, b"")
        for child in (by_twistd, by_twist, daemon):
            self.assertNotIn("starting", child.log + child.out.decode())
        self.assertEqual(os.listdir(self.directory), [])

    async def test_a_port_that_is_taken_is_named(self) -> None:
        taken = bound(listening=True)
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        arguments = ("mesh", f"--listen=tcp:{port}:interface=127.0.0.1")
        by_twistd = self.twistd(*arguments, "--print")
        by_twist = self.run_module("twisted", *arguments, "--stdio")
        quiet = self.twistd(*arguments)
        children = [by_twistd, by_twist, quiet]
        self.assertEqual(await self.until_ended(*children), [1, 1, 1])
        for child in children:
            told = f"mesh: cannot listen on 127.0.0.1:{port}: Address already in use\n"
            self.assertIn(told, child.log + child.out.decode())
        self.assertEqual(by_twistd.out + by_twist.out, b"")

    async def test_the_start_of_a_daemon_fails_where_it_was_started(self) -> None:
        taken = bound(listening=True)
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        files = ("--pidfile=node.pid", "--logfile=node.log")
        daemon = self.start(*TWISTD, *files, "mesh", f"--listen=tcp:{port}:interface=127.0.0.1")
        self.assertEqual(await self.until_ended(daemon), [1])
        told = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        self.assertIn(told, daemon.log + daemon.out.decode())
        await self.until(lambda: not (self.directory / "node.pid").exists())

    async def test_identity_is_made_for_its_owner_alone_and_refused_when_others_can_read_it(self) -> None:
        first = self.mesh("--identity=node.key", "--print")
        await self.until(lambda: first.event("listening"))
        key = self.directory / "node.key"
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        first.signal("INT")
        await self.until_ended(first)
        again = self.mesh("--identity=node.key", "--print")
        await self.until(lambda: again.event("listening"))
        self.assertEqual(again.event("listening")["id"], first.event("listening")["id"])
        key.chmod(0o644)
        refused = self.mesh("--identity=node.key", "--print")
        self.assertEqual(await self.until_ended(refused), [1])
        self.assertIn("chmod 600", refused.log)
        self.assertEqual(refused.out, b"")


class MeetingTests(ProcessCase):
    async def test_relative_paths_start_where_the_command_does(self) -> None:
        (self.directory / "elsewhere").mkdir()
        options = ("mesh", f"--listen={ANYWHERE}", "--identity=node.key", "--history=node.history")
        child = self.twistd("--rundir=elsewhere", *options)
        await self.until_listening(child)
        child.signal("TERM")
        await self.until_ended(child)
        self.assertEqual(os.listdir(self.directory / "elsewhere"), [])
        names = ["elsewhere", "node.history", "node.key", "node.key.epoch"]
        self.assertEqual(sorted(os.listdir(self.directory)), names)

    async def test_two_nodes_live_in_one_directory(self) -> None:
        first = self.mesh("--identity=a.key", "--stdio")
        await self.until_listening(first)
        second = self.mesh("--identity=b.key", "--stdio", peers=(first,))
        await self.until(lambda: first.links == second.links == 1)
        first.type("hello\n")
        await self.until(lambda: second.lines == ["hello"])

    async def test_a_peer_that_is_not_there_is_told_now_and_then_and_linked_when_it_comes(self) -> None:
        place = bound(listening=False)
        port = place.getsockname()[1]
        waiting = self.twistd("mesh", f"--peer=127.0.0.1:{port}", "--stdio")
        waiting.type("typed before anybody is there\n")
        told = f"cannot link with 127.0.0.1:{port}: connection refused, nothing listens there; next"
        await self.until(lambda: waiting.log.count(told) >= 2)
        self.assertIn("next attempt in", waiting.log)
        place.close()
        peer = self.twistd("mesh", f"--listen=tcp:{port}:interface=127.0.0.1", "--stdio")
        await self.until(lambda: waiting.links == 1)
        await self.until(lambda: peer.lines == ["typed before anybody is there"])
        self.assertLessEqual(waiting.log.count("cannot link"), LOG_BURST)


class EndingTests(ProcessCase):
    async def test_interrupt_and_termination_end_it_promptly_and_with_a_goodbye(self) -> None:
        alone = self.twistd("mesh", "--peer=127.0.0.1:1", "--stdio")
        node = self.mesh("--print")
        await self.until_listening(node)
        others = [self.mesh("--no-overlay", mode, peers=(node,)) for mode in ("--stdio", "--print")]
        await self.until(lambda: [other.links for other in others] == [1, 1])
        await self.until(lambda: "cannot link" in alone.log)
        for child, name in ((alone, "INT"), (others[0], "INT"), (others[1], "TERM")):
            child.signal(name)
        status = await self.until_ended(alone, *others, deadline=PROMPT)
        self.assertEqual(status, [-signal.SIGINT, -signal.SIGINT, -signal.SIGTERM])
        await self.until(lambda: node.event("disconnect"))
        await self.until(lambda: node.log.count("ended: the peer closed: the node stops [leaving]") == 2)

    async def test_the_older_of_two_with_one_key_ends_with_status_78_and_the_newer_stays(self) -> None:
        ends = [self.mesh("--no-overlay")]
        await self.until_listening(*ends)
        ends.append(self.mesh("--no-overlay", "--stdio", peers=(ends[0],)))
        await self.until(lambda: ends[1].links == 1)
        older = self.mesh("--no-overlay", "--identity=node.key", "--stdio", peers=(ends[0],))
        await self.until(lambda: older.links == 1)
        older.type("before\n")
        await self.until(lambda: ends[1].lines == ["before"])
        newer = self.mesh("--no-overlay", "--identity=node.key", "--stdio", peers=(ends[1],))
        await self.until(lambda: "another node uses this node's key" in older.log)
        older.type("not sent any more\n")
        self.assertEqual(await self.until_ended(older), [78])
        self.assertIn("mesh: another node that was started later uses the key of this one", older.log)
        await self.until(lambda: SHARED in newer.log)
        newer.type("after\n")
        await self.until(lambda: ends[1].lines == ["before", "after"])
        self.assertNotIn("another node uses this node's key", newer.log)


class StdioTests(ProcessCase):
    async def pair(self, *modes: str, **options: Any) -> list[Child]:
        """Two nodes that are linked, one in each mode."""
        first = self.mesh(modes[0])
        await self.until_listening(first)
        second = self.mesh(modes[1], peers=(first,), **options)
        await self.until(lambda: first.links == second.links == 1)
        return [first, second]

    async def test_lines_of_every_kind_pass_as_they_are(self) -> None:
        first, second = await self.pair("--stdio", "--stdio")
        long = "x" * 1_000_000
        first.type("one\n\ntwo\r\n  three  \n")
        first.type("Zoë ☃ 🜁 \u202e\n".encode() + b"no \xff\xfe UTF-8\n" + f"{long}\n".encode())
        first.type("y" * 1_100_000 + "\n")
        first.type("the last, without an end")
        first.end_input()
        self.assertEqual(await self.until_ended(first), [1])  # since one line was too long
        lines = ["one", "", "two", "  three  ", "Zoë ☃ 🜁 \u202e", r"no \xff\xfe UTF-8", long]
        await self.until(lambda: len(second.lines) == len(lines) + 1)
        self.assertEqual(second.lines, [*lines, "the last, without an end"])
        self.assertIn("mesh: 1 line was too long and not sent\n", first.log)
        self.assertEqual(first.out, b"")

    async def test_input_and_output_may_be_files(self) -> None:
        first = self.mesh("--stdio")
        await self.until_listening(first)
        (self.directory / "in").write_text("from a file\n" * 3)
        reads = os.open(self.directory / "in", os.O_RDONLY)
        writes = os.open(self.directory / "out", os.O_WRONLY | os.O_CREAT)
        fds: dict[int, int | str] = {0: reads, 1: writes, 2: "r"}
        by_files = self.mesh("--stdio", peers=(first,), fds=fds)
        os.close(reads)
        os.close(writes)
        self.assertEqual(await self.until_ended(by_files), [0])
        await self.until(lambda: first.lines == ["from a file"] * 3)
        self.assertEqual((self.directory / "out").read_text(), "")

    async def test_on_a_terminal_a_message_is_shown_above_the_line_that_is_typed(self) -> None:
        keys, screen = os.openpty()
        self.addCleanup(os.close, keys)
        self.addCleanup(os.close, screen)
        os.set_blocking(keys, False)
        modes, shown = termios.tcgetattr(screen), bytearray()

        def shows(*texts: str) -> bool:
            """Whether all *texts* were shown, one after the other."""
            while readable(keys):
                shown.extend(os.read(keys, 65536))
            at, text = 0, shown.decode("utf-8", "replace")
            for each in texts:
                at = text.find(each, at) + len(each)
                if at < len(each):
                    return False
            return True

        other = self.mesh("--stdio", "--label=web1")
        await self.until_listening(other)
        self.patch(os, "environ", os.environ | {"TERM": "xterm"})
        node = self.mesh("--stdio", peers=(other,), fds={0: screen, 1: screen, 2: screen})
        await self.until(lambda: other.links == 1 and shows("linked with", ">"))
        await self.until(lambda: shows("Type a line to send it to all members. /help tells more"))
        os.write(keys, "half a l\N{LATIN SMALL LETTER I WITH DIAERESIS}".encode())
        await self.until(lambda: shows("linked with", "half a lï"))
        other.type("hello\n")
        await self.until(lambda: shows("half a lï", "web1: hello\r\n", "half a lï"))
        os.write(keys, b"ne\r/who\r")
        await self.until(lambda: other.lines == ["half a lïne"] and shows("): up\r\n"))
        os.write(keys, b"\x04")
        self.assertEqual(await self.until_ended(node), [0])
        self.assertEqual(termios.tcgetattr(screen), modes)

    async def test_a_reader_that_closes_the_pipe_ends_the_process_quietly(self) -> None:
        reads, writes = os.pipe()
        first, second = await self.pair("--stdio", "--stdio", fds={0: "w", 1: writes, 2: "r"})
        os.close(writes)
        first.type("the one line that is read\n")
        os.set_blocking(reads, False)
        await self.until(lambda: readable(reads))
        self.assertEqual(os.read(reads, 100), b"the one line that is read\n")
        os.close(reads)  # as `| head -n 1` does
        self.assertEqual(await self.until_ended(second), [0])
        self.assertNotIn("warn]", second.log)
        self.assertNotIn("error]", second.log)

    async def test_a_second_interrupt_changes_nothing(self) -> None:
        reads, writes = os.pipe()
        self.addCleanup(os.close, reads)  # nobody reads it, so that the end takes long
        first, second = await self.pair("--stdio", "--stdio", fds={0: "w", 1: writes, 2: "r"})
        os.close(writes)
        first.type("x" * 500_000 + "\n")
        await self.until(lambda: readable(reads))
        second.signal("INT")
        await self.until(lambda: "the node stops [leaving]" in second.log)
        second.signal("INT")
        second.signal("TERM")
        self.assertEqual(await self.until_ended(second), [-signal.SIGINT])
        self.assertNotIn("Traceback", second.log)

    async def test_an_interrupt_together_with_the_end_of_input_leaves_no_traceback(self) -> None:
        # As when Ctrl-C ends all of a pipeline.
        node = self.mesh("--stdio")
        await self.until_listening(node)
        node.signal("STOP")
        node.end_input()
        node.signal("INT")
        node.signal("CONT")
        await self.until_ended(node)
        self.assertNotIn("Traceback", node.log)
        self.assertNotIn("ReactorNotRunning", node.log)

    async def test_a_full_disk_is_not_a_reader_that_left(self) -> None:
        writes = os.open("/dev/full", os.O_WRONLY)
        node = self.mesh("--print", fds={0: "w", 1: writes, 2: "r"})
        os.close(writes)
        self.assertEqual(await self.until_ended(node), [1])
        told = "mesh: cannot write to standard output: No space left on device\n"
        self.assertEqual(node.log.count(told), 1)

    async def test_the_terminal_blocks_again_for_who_uses_it_next(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        fd = theirs.fileno()
        node = self.mesh("--stdio", fds={0: fd, 1: fd, 2: "r"})
        await self.until(lambda: not os.get_blocking(fd))
        ours.send(b"typed\n")
        await self.until(lambda: not readable(fd))  # it runs, and handles signals
        node.signal("INT")
        await self.until_ended(node)
        self.assertTrue(os.get_blocking(fd))


class PrintTests(ProcessCase):
    async def test_every_line_is_json_and_tells_what_happens(self) -> None:
        node = self.mesh("--print")
        await self.until_listening(node)
        other = self.mesh("--stdio", peers=(node,))
        await self.until(lambda: node.links == other.links == 1)
        other.type("hello\n")
        other.end_input()
        self.assertEqual(await self.until_ended(other), [0])
        await self.until(lambda: node.event("disconnect"))
        node.signal("INT")
        await self.until_ended(node)
        names = [event["event"] for event in node.events]
        self.assertEqual(names, ["listening", "connect", "member", "message", "member", "disconnect"])
        listening, connect, _, message, _, _ = node.events
        self.assertEqual(listening["port"], node.ports[0])
        self.assertEqual(listening["ports"], node.ports)
        self.assertEqual(connect["peers"], [message["sender"]])
        self.assertEqual((message["type"], message["packets"], message["sequence"]), (0, ["hello"], 1))

    async def test_input_is_not_touched(self) -> None:
        reads, writes = os.pipe()
        os.write(writes, b"for the next command")
        os.close(writes)
        node = self.mesh("--print", fds={0: reads, 1: "r", 2: "r"})
        await self.until(lambda: node.event("listening"))
        node.signal("INT")
        await self.until_ended(node)
        with os.fdopen(reads, "rb") as rest:
            self.assertEqual(rest.read(), b"for the next command")

    async def test_twist_keeps_its_log_off_standard_output_as_well(self) -> None:
        node = self.start("-m", "twisted", "mesh", f"--listen={ANYWHERE}", "--print")
        await self.until(lambda: node.event("listening"))
        node.signal("INT")
        await self.until_ended(node)
        self.assertEqual(len(node.events), 1)
        self.assertIn("listens on", node.log)

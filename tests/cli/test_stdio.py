"""``--stdio`` without a process: lines, room, and the end of input."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import sys
import termios
import tty
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.meshcase import MIB, MeshCase
from tests.support.terminals import Screen, TerminalCase
from twisted_mesh.cli.lines import LINE_BYTES, READ_AHEAD, LineSplitter
from twisted_mesh.cli.stdio import Chat, Stdio
from twisted_mesh.cli.terminal import UNWRITTEN_BYTES, Modes, StandardError
from twisted_mesh.delivery.queue import READ_BYTES
from twisted_mesh.identity import Identity
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService
from twisted_mesh.testing import PORT

LIMITS = {"handover_timeout": 10.0, "close_timeout": 2.0, "unsent_bytes": 2 * MIB, "queue_limit": 100}
TWENTY_LINES = b"".join(b"%d\n" % number for number in range(20))


class LineSplitterTests(SynchronousTestCase):
    def test_any_cut_of_the_input_gives_the_same_lines(self) -> None:
        random = Random(1)
        data = "one\n\ntwo\r\nZoë ☃\n".encode() + b"\xff\n\rthree\n" + b"x" * 20 + b"\n" + b"four"
        lines = ["one", "", "two", "Zoë ☃", r"\xff", "\rthree", None, "four"]
        for _ in range(100):
            splitter = LineSplitter(12)
            got, rest = [], data
            while rest:
                size = random.randint(1, 9)
                got += splitter.feed(rest[:size])
                rest = rest[size:]
            self.assertEqual(got + splitter.end(), lines)

    def test_the_longest_line_passes_and_its_end_does_not_count(self) -> None:
        for end in (b"\n", b"\r\n"):
            for cut in (3, 4, 5):
                splitter = LineSplitter(4)
                data = b"1234" + end
                self.assertEqual(splitter.feed(data[:cut]) + splitter.feed(data[cut:]), ["1234"])

    def test_a_line_that_is_too_long_is_not_kept(self) -> None:
        splitter = LineSplitter(10)
        for _ in range(1000):
            self.assertEqual(splitter.feed(b"123456"), [])
            self.assertLessEqual(len(splitter._rest), 11)
        self.assertEqual(splitter.feed(b"\nshort\n"), [None, "short"])

    def test_end_of_input_ends_the_last_line(self) -> None:
        for typed, lines in ((b"a", ["a"]), (b"a\n", []), (b"", []), (b"x" * 9, [None])):
            splitter = LineSplitter(4)
            splitter.feed(typed)
            self.assertEqual(splitter.end(), lines)


class FaultyStdio(Stdio):
    """A terminal that fails when it prints."""

    def as_line(self, message: Message) -> str | None:
        raise ZeroDivisionError("a fault")


class StdioTests(TerminalCase):
    def linked_terminal(self, kind: type[Stdio] = Stdio, **options: Any) -> Screen:
        """A node that is linked with another one, ``self.other``."""
        options.setdefault("limits", LIMITS)
        screen = self.terminal(kind, **options)
        self.other: MeshService = self.node()
        self.link((self.other, self.own_node))
        return screen

    def shown(self, text: str, is_terminal: bool) -> list[str]:
        """The lines that a message of *text* prints, on a terminal or on something else."""
        self.patch(os, "isatty", lambda descriptor: is_terminal)
        screen = self.linked_terminal()
        self.send(self.other, text)
        return screen.lines

    def test_lines_typed_are_sent_and_messages_of_text_are_lines(self) -> None:
        screen = self.linked_terminal()
        screen.at.dataReceived(b"hello\nwor")
        screen.at.dataReceived(b"ld\n")
        for packets in (["one"], ["two", "words"], [], ["", ""], [b"bytes"], ["mixed", 1], ["Zoë ☃"]):
            self.other.send(*packets)
        self.network.pump()
        self.assertEqual(self.got(self.other), ["hello", "world"])
        self.assertEqual(screen.lines, ["one", "two words", "", " ", "Zoë ☃"])

    def test_a_message_is_one_line_whatever_it_holds(self) -> None:
        for is_terminal in (True, False):
            self.assertEqual(self.shown("two\nlines\r\n", is_terminal), [r"two\nlines\r\n"])

    def test_a_stranger_cannot_steer_the_terminal(self) -> None:
        lines = self.shown("\x1b]0;title\x07 \x9b2J \x7f tab\t\u202e ☃", is_terminal=True)
        self.assertEqual(lines, ["\\x1b]0;title\\x07 \\x9b2J \\x7f tab\t\\u202e ☃"])

    def test_where_no_terminal_is_nothing_but_line_ends_is_changed(self) -> None:
        text = "\x1b[1m \x00 \u202e \\n"
        self.assertEqual(self.shown(text, is_terminal=False), [text])

    def test_end_of_input_ends_with_0_once_all_is_handed_over(self) -> None:
        screen = self.linked_terminal()
        self.type_all(screen, b"one\ntwo", after=1)
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))
        self.assertEqual(self.got(self.other), ["one", "two"])
        self.assertEqual(len(self.log("end of input")), 1)

    def test_end_of_input_without_a_peer_waits_and_ends_with_1_and_the_reason(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        self.type_all(screen, b"one\ntwo\n", after=LIMITS["handover_timeout"] - 0.1)
        self.assertFalse(self.stopping)
        self.network.advance(0.2)
        self.assertEqual(self.status, 1)
        self.assertEqual(self.told.getvalue(), "mesh: 2 messages were taken by no neighbour\n")

    def test_at_the_end_of_input_it_says_why_no_peer_was_reached(self) -> None:
        peers = [f"127.0.0.{number}:1" for number in range(1, 6)]
        screen = self.terminal(Stdio, limits=LIMITS, peers=peers)
        self.type_all(screen, b"one\ntwo\n", after=LIMITS["handover_timeout"] + 1)
        self.assertEqual(self.status, 1)
        refused = "connection refused, nothing listens there"
        reasons = "; ".join(f"no connection to {peer}: {refused}" for peer in peers[:3])
        self.assertEqual(
            self.told.getvalue(), f"mesh: 2 messages were taken by no neighbour: {reasons}; and 2 more\n"
        )

    def test_an_attempt_that_is_under_way_at_the_end_is_waited_for(self) -> None:
        class Silent:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        limits = {**LIMITS, "connect_timeout": 15.0}
        screen = self.terminal(Stdio, limits=limits, peers=["10.0.0.9:1"], dial=lambda *_: Silent())
        self.type_all(screen, b"one\n", after=14.9)
        self.assertFalse(self.stopping)
        self.network.advance(0.2)
        self.assertTrue(self.stopping)
        self.network.advance(20)
        silent = "no connection to 10.0.0.9:1: nothing there has answered within 15 s"
        told = f"mesh: 1 message was taken by no neighbour: {silent} (a firewall may be in between)\n"
        self.assertEqual((self.status, self.told.getvalue()), (1, told))

    def test_an_attempt_that_leads_to_a_neighbour_at_last_hands_over(self) -> None:
        other = self.node()
        dialled: list[Any] = []

        class Late:
            def connect(self, factory: Any) -> Deferred[Any]:
                dialled.append((factory, connected := Deferred[Any]()))
                return connected

        limits = {**LIMITS, "connect_timeout": 15.0}
        screen = self.terminal(Stdio, limits=limits, peers=["10.0.0.1:4444"], dial=lambda *_: Late())
        self.type_all(screen, b"one\n", after=12)
        self.assertFalse(self.stopping)
        ((factory, connected),) = dialled
        reach = self.network.dial_from(self.host(self.own_node))
        reach(self.host(other), PORT).connect(factory).chainDeferred(connected)
        self.network.advance(2)
        self.assertEqual((self.status, self.told.getvalue(), self.got(other)), (0, "", ["one"]))

    def test_the_history_keeps_what_nobody_took_for_the_next_start(self) -> None:
        files = {"identity": Identity.create(self.mktemp()), "history": self.mktemp()}
        screen = self.terminal(Stdio, limits=LIMITS, **files)
        self.type_all(screen, b"fire\n", after=LIMITS["handover_timeout"] + 5)
        kept = "1 message was taken by no neighbour; the history keeps each for the next start"
        self.assertEqual((self.status, self.told.getvalue()), (1, f"mesh: {kept}\n"))
        other = self.node(replay="all")
        again = self.node(**files)
        self.link((again, other), after=1)
        self.assertEqual(self.got(other), ["fire"])

    def test_a_peer_that_comes_in_time_takes_what_was_typed(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        self.type_all(screen, b"one\ntwo\n", after=5)
        other = self.node()
        self.link((other, self.own_node), after=1)
        self.assertEqual((self.status, self.got(other)), (0, ["one", "two"]))

    def test_end_of_empty_input_ends_at_once(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        self.end_input(screen)
        self.assertEqual(self.status, 0)

    def test_a_line_that_was_not_sent_is_told_and_so_is_the_status(self) -> None:
        screen = self.linked_terminal()
        # The second line is short enough as typed, and too long as it would be sent.
        lines = b"x" * (LINE_BYTES + 1), b"\xff" * LINE_BYTES, b"short\n"
        self.type_all(screen, b"\n".join(lines), after=1)
        self.assertEqual(self.got(self.other), ["short"])
        for line in (1, 2):
            self.assertEqual(len(self.log(f"line {line} has over 1048512 bytes and was not sent")), 1)
        self.assertEqual(self.status, 1)
        self.assertEqual(self.told.getvalue(), "mesh: 2 lines were too long and not sent\n")

    def test_the_longest_line_is_sent(self) -> None:
        screen = self.linked_terminal()
        screen.at.dataReceived(b"x" * LINE_BYTES + b"\n")
        self.network.pump()
        self.assertEqual([len(line) for line in self.got(self.other)], [LINE_BYTES])

    def test_input_is_not_read_while_the_mesh_is_congested(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        typed = 0
        while screen.reads:
            screen.at.dataReceived(b"%0999d\n" % typed * 8)
            typed += 8
            self.network.pump()
        self.assertLess(typed * 1000, 2 * LIMITS["unsent_bytes"])
        other = self.node()
        self.link((other, self.own_node), after=1)
        self.assertTrue(screen.reads)
        self.assertEqual(len(self.got(other)), typed)

    def test_congested_at_the_end_of_input_ends_with_1_and_the_reason(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        screen.at.dataReceived((b"x" * 999_999 + b"\n") * 3)
        self.network.pump()
        screen.at.readConnectionLost()
        self.network.advance(LIMITS["handover_timeout"] + 0.1)
        self.assertTrue(self.stopping)
        self.network.advance(20)
        self.assertEqual(self.status, 1)
        told = "mesh: 1 line was not sent: too much waits that no neighbour has taken\n"
        self.assertEqual(self.told.getvalue(), told)

    def test_output_that_nobody_reads_waits_in_bounds_and_nothing_held_is_lost(self) -> None:
        screen = self.linked_terminal()
        screen.blocked = True
        for number in range(150):
            self.other.send(str(number))
            self.network.pump()
        self.assertEqual(screen.lines, ["0"])
        self.assertEqual(self.own_node.footprint()["queued_messages"], LIMITS["queue_limit"])
        screen.read_on()
        self.network.pump()
        self.assertEqual(screen.lines, [str(number) for number in range(150)])
        self.assertEqual(self.happened(self.own_node, "gap"), [])

    def test_of_output_that_nobody_reads_what_is_held_no_more_is_told(self) -> None:
        screen = self.linked_terminal(limits=LIMITS | {"history_seconds": 60})
        screen.blocked = True
        for number in range(150):
            self.other.send(str(number))
            self.network.pump()
        self.network.advance(120)
        screen.read_on()
        self.network.pump()
        # The terminal had taken one, and 100 waited for it; the others had left the history.
        self.assertEqual(screen.lines, [str(number) for number in range(101)])
        (gap,) = self.happened(self.own_node, "gap")
        self.assertEqual((gap.sender, gap.first, gap.last), (self.other.id, 102, 150))

    def test_at_the_end_a_slow_reader_gets_what_has_come(self) -> None:
        screen = self.linked_terminal()
        screen.blocked = True
        self.send(self.other, *map(str, range(5)))
        self.end_input(screen, after=1)
        self.assertFalse(self.has_ended)
        screen.read_on()
        self.network.advance(1)
        self.assertEqual((screen.lines, self.status), ([str(number) for number in range(5)], 0))

    def test_at_the_end_a_reader_that_does_not_read_is_not_waited_for(self) -> None:
        screen = self.linked_terminal()
        screen.blocked = True
        self.send(self.other, *map(str, range(5)))
        self.end_input(screen, after=LIMITS["close_timeout"] + 1)
        self.assertTrue(self.has_ended)
        self.assertEqual(self.log("standard output was not read to its end"), self.log("standard output"))
        self.assertEqual(len(self.log("standard output")), 1)

    def test_what_comes_while_the_node_says_goodbye_is_shown(self) -> None:
        screen = self.linked_terminal(limits=LIMITS | {"farewell_timeout": 5.0})
        node = self.own_node
        self.network.between(self.host(node), self.host(self.other))[1].reads = False
        self.fill(node)
        self.stop()
        self.network.advance(LIMITS["handover_timeout"] + 4.5)
        self.send(self.other, "before it is over", after=5)
        self.assertTrue(self.has_ended)
        self.assertEqual(screen.lines, ["before it is over"])
        self.assertEqual(self.log("standard output"), [])

    def test_what_nobody_reads_at_the_very_end_is_not_waited_for_but_told(self) -> None:
        screen = self.linked_terminal()
        self.send(self.other, "never read")
        screen.blocked = True
        self.end_input(screen, after=LIMITS["close_timeout"] - 0.1)
        self.assertFalse(self.has_ended)
        self.network.advance(0.2)
        self.assertEqual(self.status, 0)
        self.assertEqual(len(self.log("standard output was not read to its end")), 1)

    def test_closed_output_ends_the_process_and_what_was_typed_is_sent(self) -> None:
        screen = self.linked_terminal()
        screen.at.dataReceived(b"last words\n")
        screen.blocked = True
        self.other.send("one")
        self.send(self.other, "two")
        screen.blocked = False
        screen.close_output()
        screen.at.readConnectionLost()  # and the input may end at the same time
        self.network.advance(1)
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))
        self.assertEqual(self.got(self.other), ["last words"])
        self.assertEqual(len(self.log("nobody reads the output any more")), 1)

    def test_output_that_cannot_be_written_ends_the_process_with_1_and_says_why_once(self) -> None:
        screen = self.linked_terminal()
        screen.at.fault = OSError(errno.ENOSPC, "No space left on device")
        screen.close_output()
        self.network.advance(1)
        self.assertEqual(self.status, 1)
        self.assertEqual(
            self.told.getvalue(), "mesh: cannot write to standard output: No space left on device\n"
        )

    def test_output_that_cannot_be_written_at_the_very_end_is_a_reason_to_end_with_1(self) -> None:
        screen = self.linked_terminal()
        screen.blocked = True
        self.end_input(screen)
        screen.at.fault = OSError(errno.EIO, "Input/output error")
        screen.at.connectionLost()
        self.network.advance(1)
        self.assertEqual(self.status, 1)
        self.assertEqual(
            self.told.getvalue(), "mesh: cannot write to standard output: Input/output error\n"
        )

    def test_input_that_ends_when_the_process_was_stopped_changes_nothing(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        self.type_all(screen, b"one\n")
        self.stop()
        self.network.advance(LIMITS["handover_timeout"] + 1)
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))

    def test_of_a_process_that_was_stopped_input_and_output_tell_nothing(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        self.stop()
        self.network.advance(1)
        screen.at.readConnectionLost()
        screen.close_output()
        self.assertEqual(self.log("end of input") + self.log("nobody reads"), [])
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))

    def test_a_fault_in_reading_ends_the_process_and_is_logged(self) -> None:
        screen = self.terminal(Stdio, limits=LIMITS)
        screen.fault = ZeroDivisionError("a fault")
        screen.at.dataReceived((b"x" * 99_999 + b"\n") * 30)  # more than unsent_bytes
        self.network.advance(1)
        self.assertEqual(self.status, 1)
        self.assertEqual(self.told.getvalue(), "mesh: a fault\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_fault_in_printing_ends_the_process_and_is_logged(self) -> None:
        self.linked_terminal(FaultyStdio)
        self.send(self.other, "one", after=1)
        self.assertEqual(self.status, 1)
        self.assertEqual(self.told.getvalue(), "mesh: writing to standard output failed\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ChatTests(TerminalCase):
    """``--stdio`` on a terminal, without the terminal."""

    def chat(self, *others: MeshService, label: str | None = "me") -> Screen:
        """A node with a prompt, which *others* are linked with."""
        self.patch(os, "isatty", lambda descriptor: True)
        screen = self.terminal(Chat, limits=LIMITS, label=label)
        self.link(*((other, self.own_node) for other in others), after=1)
        return screen

    def test_a_message_has_its_authors_label_or_the_beginning_of_its_id(self) -> None:
        labels = "web1", None, "same", "same", "me", "\x1b[2J"
        others = [self.node(label=label) for label in labels]
        screen = self.chat(*others)
        for other in others:
            self.send(other, "two words")
        self.send(others[0], b"bytes", after=1)
        ids = [other.id.decode()[:8] for other in others]
        names = "web1", ids[1], f"same ({ids[2]})", f"same ({ids[3]})", f"me ({ids[4]})", r"\x1b[2J"
        self.assertEqual(screen.lines, [f"{name}: two words" for name in names])

    def test_a_message_that_others_do_not_see_says_so(self) -> None:
        other = self.node(label="web1")
        screen = self.chat(other)
        other.routing_table[self.own_node.id].whisper("psst")
        other.send_to(self.own_node.id, "for you")
        self.network.advance(1)
        self.assertEqual(
            sorted(screen.lines), ["web1, to this node alone: for you", "web1, to this node alone: psst"]
        )

    def test_a_label_that_another_takes_later_stands_with_ids_from_then_on(self) -> None:
        first = self.node(label="web1")
        screen = self.chat(first)
        self.send(first, "one")
        other = self.node(label="web1")
        self.link((other, self.own_node), after=1)
        self.send(first, "two")
        self.assertEqual(screen.lines, ["web1: one", f"web1 ({first.id.decode()[:8]}): two"])

    def test_who_tells_the_members_and_their_states_those_that_are_up_first(self) -> None:
        up, down = self.keyed(label="web1"), self.keyed()
        screen = self.chat(up, down)
        down.stopService()
        self.network.advance(5)
        self.type_in(screen, b"/who\n", after=1)
        told = [f"me ({self.own_node.id.decode()[:8]}): this node"]
        told += [f"web1 ({up.id.decode()[:8]}): up", f"{down.id.decode()[:8]}: left"]
        self.assertEqual(screen.lines, told)
        self.assertEqual(self.got(up), [])

    def test_help_tells_the_commands_and_what_is_none_is_told_and_not_sent(self) -> None:
        other = self.node()
        screen = self.chat(other)
        self.type_in(screen, b"/help\n")
        self.assertEqual([line.split()[0] for line in screen.lines], ["A", "/who", "/help", "//..."])
        self.type_in(screen, b"/\x1b\n/who is there\n", after=1)
        also = "with // in front it is sent as text"
        told = [f"/\\x1b is not a command; /help tells them; {also}"]
        told.append(f"/who is there is not /who or /help; {also}")
        self.assertEqual((screen.lines[4:], self.got(other)), (told, []))

    def test_two_slashes_send_a_line_that_begins_with_one_and_empty_lines_are_not_sent(self) -> None:
        other = self.node()
        screen = self.chat(other)
        self.type_in(screen, b"//etc/hosts\n\n a line\n", after=1)
        self.assertEqual((self.got(other), screen.lines), (["/etc/hosts", " a line"], []))

    def test_it_is_for_a_terminal_that_can_move_its_cursor_and_for_no_other(self) -> None:
        for descriptors, term, kind in (
            ((0, 1, 2), "xterm", Chat),
            ((0, 1), "xterm", Chat),
            ((0, 1), "dumb", Stdio),
            ((0, 2), "xterm", Stdio),
            ((1, 2), "xterm", Stdio),
        ):
            self.patch(os, "isatty", lambda descriptor, there=descriptors: descriptor in there)
            self.patch(os, "environ", {"TERM": term})
            self.assertIs(Stdio.here(), kind)


class ModesTests(SynchronousTestCase):
    """The modes of descriptors, and standard error beside a prompt."""

    def test_modes_of_a_terminal_and_of_a_pipe_are_restored(self) -> None:
        ends = [*os.openpty(), *os.pipe()]
        for end in ends:
            self.addCleanup(os.close, end)
        _, screen, reads, _ = ends
        before = termios.tcgetattr(screen)
        modes = Modes((screen, reads))
        tty.setraw(screen)
        os.set_blocking(reads, False)
        modes.restore()
        self.assertEqual((termios.tcgetattr(screen), os.get_blocking(reads)), (before, True))
        modes.restore()

    def test_whole_lines_are_shown_above_a_prompt_as_long_as_there_is_one(self) -> None:
        told, above = io.StringIO(), list[str]()
        self.patch(sys, "__stderr__", told)
        error = StandardError()
        print("one", file=error)
        error.above = lambda lines: not above and not above.append(lines)  # type: ignore[func-returns-value]
        print("two", file=error)
        print("three", "begun", sep="\n", end="", file=error)
        error.flush()
        print(" and ended", file=error)
        self.assertEqual((above, told.getvalue()), (["two\n"], "one\nthree\nbegun and ended\n"))
        self.patch(sys, "__stderr__", None)
        print("nowhere", file=error, flush=True)


class TakenTests(TerminalCase):
    """``--stdio --history``: a message counts as taken when its line is written."""

    def setUp(self) -> None:
        super().setUp()
        self.history = Path(self.mktemp())
        self.screen = self.terminal(Stdio, limits=LIMITS, history=self.history)
        self.other: MeshService = self.node()
        self.link((self.other, self.own_node))

    @property
    def untaken(self) -> int:
        """How many messages a start after a crash at this moment would print."""
        self.network.advance(1)  # every flush comes to its end
        with closing(sqlite3.connect(self.history)) as file:
            ((head, taken),) = file.execute("SELECT sum(head), sum(taken) FROM stream")
        return int(head - taken)

    def test_a_message_is_not_taken_before_its_line_is_written(self) -> None:
        self.screen.blocked = True
        self.send(self.other, "one", "two")
        self.assertEqual((self.screen.lines, self.untaken), (["one"], 2))
        self.screen.read_on()
        self.assertEqual((self.screen.lines, self.untaken), (["one", "two"], 0))

    def test_nor_is_one_that_is_not_shown_and_came_after_it(self) -> None:
        self.send(self.other, b"bytes")
        self.assertEqual(self.untaken, 0)
        self.screen.blocked = True
        self.send(self.other, "one", b"bytes")
        self.assertEqual(self.untaken, 2)
        self.screen.read_on()
        self.assertEqual(self.untaken, 0)

    def test_bytes_of_lines_that_are_not_written_are_bounded(self) -> None:
        self.screen.stuck = True
        self.send(self.other, *[f"{number:0999d}" for number in range(80)])
        self.assertEqual(len(self.screen.lines), UNWRITTEN_BYTES // 1000 + 1)
        self.screen.read_on()
        self.assertEqual((len(self.screen.lines), self.untaken), (80, 0))

    def test_messages_that_are_not_shown_and_wait_for_lines_are_bounded(self) -> None:
        self.screen.stuck = True
        self.send(self.other, "line", *[b"x" * 100_000] * 15, after=1)
        waiting = self.own_node.footprint()["queued_messages"]
        self.assertEqual(waiting, 15 - (READ_BYTES // 100_000 + 1))
        self.screen.read_on()
        self.assertEqual(self.untaken, 0)

    def test_lines_that_nobody_reads_any_more_are_not_taken(self) -> None:
        self.screen.blocked = True
        self.send(self.other, "one", "two", "three")
        self.screen.close_output()
        self.assertEqual(self.untaken, 3)


class FullHistoryTests(TerminalCase):
    """``--stdio --history`` while the history cannot be written."""

    def full_disk(self) -> Screen:
        """A node with a history that cannot be written, linked with ``self.other``."""
        history = Path(self.mktemp())
        screen = self.terminal(Stdio, limits=LIMITS, history=history)
        self.other: MeshService = self.node()
        self.link((self.other, self.own_node))
        self.writer = self.file_of(self.own_node)._writer
        self.writer.execute("PRAGMA query_only = ON")
        self.send(self.other, "the last straw", after=1)
        self.assertEqual(len(self.log("nothing is sent until it can be written again")), 1)
        return screen

    def make_room(self) -> None:
        """Let the file be written again, and wait for the next attempt."""
        self.writer.execute("PRAGMA query_only = OFF")
        self.network.advance(self.own_node.config.store_retry + 1)

    def test_lines_wait_what_comes_is_printed_and_with_room_again_it_goes_on(self) -> None:
        screen = self.full_disk()
        self.type_in(screen, b"one\n", after=100)
        self.other.send("meanwhile")
        self.type_in(screen, b"two\n", after=1)
        self.assertFalse(self.stopping)
        self.assertEqual((screen.lines, self.got(self.other)), (["the last straw", "meanwhile"], []))
        self.make_room()
        self.assertEqual(self.got(self.other), ["one", "two"])
        screen.at.readConnectionLost()
        self.network.advance(1)
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))

    def test_little_is_read_ahead(self) -> None:
        screen = self.full_disk()
        typed = 0
        while screen.reads:
            screen.at.dataReceived(b"%07d\n" % typed * 128)
            typed += 128
        self.assertLessEqual(typed * 8, READ_AHEAD + 1024)
        self.make_room()
        self.assertTrue(screen.reads)
        self.assertEqual(len(self.got(self.other)), typed)

    def test_at_the_end_of_input_it_is_not_waited_for_ever(self) -> None:
        screen = self.full_disk()
        self.type_all(screen, b"one\ntwo", after=LIMITS["handover_timeout"] - 0.1)
        self.assertFalse(self.stopping)
        self.network.advance(0.2)
        self.network.advance(10)
        self.assertEqual(self.status, 1)
        self.assertRegex(
            self.told.getvalue(), "^mesh: 2 lines were not sent: the history .* cannot be written: .*\n$"
        )

    def test_what_can_be_written_in_time_is_sent(self) -> None:
        screen = self.full_disk()
        self.type_all(screen, b"one\ntwo", after=1)
        self.make_room()
        self.network.advance(10)
        self.assertEqual((self.status, self.got(self.other)), (0, ["one", "two"]))

    def test_a_last_line_without_an_end_waits_no_longer_than_others(self) -> None:
        screen = self.full_disk()
        self.type_all(screen, b"one", after=LIMITS["handover_timeout"] + 0.1)
        self.network.advance(10)
        self.assertEqual(self.status, 1)
        self.assertIn("mesh: 1 line was not sent: ", self.told.getvalue())

    def test_a_signal_meanwhile_ends_it(self) -> None:
        screen = self.full_disk()
        screen.at.dataReceived(b"one\n")
        self.stop()
        self.network.advance(30)
        self.assertEqual((self.status, self.told.getvalue()), (0, ""))


class ReceiptsTests(TerminalCase):
    """``--stdio --receipts``: who has each line is told on standard error."""

    def linked_terminal(self, others: int, **limits: Any) -> Screen:
        """A node at the end of a chain with so many *others*."""
        screen = self.terminal(Stdio, receipts=True, limits={**LIMITS, **limits})
        nodes = [self.own_node, *(self.node() for _ in range(others))]
        self.link(*pairwise(nodes), after=1)
        self.others = nodes[1:]
        return screen

    def lines(self) -> list[str]:
        """The lines on standard error since the last call."""
        told = self.told.getvalue().splitlines()
        self.told.truncate(0)
        self.told.seek(0)
        return told

    def test_each_line_tells_how_many_of_how_many_have_it_as_that_changes(self) -> None:
        screen = self.linked_terminal(2)
        self.type_in(screen, b"fire\n", after=1)
        told = [f"mesh: line 1: {count} of 2 have it" for count in range(3)]
        self.assertEqual(self.lines(), told)
        self.assertEqual(screen.lines, [])
        queue = self.others[1].messages()
        self.type_in(screen, b"again\nand again", after=1)
        self.assertEqual(self.lines(), [told[0].replace("1:", "2:"), told[1].replace("1:", "2:")])
        self.assertIsNotNone(queue.take())
        self.network.advance(1)
        self.assertEqual(self.lines(), ["mesh: line 2: 2 of 2 have it"])
        self.assertEqual(screen.lines, [])

    def test_at_the_end_of_input_it_waits_until_everybody_has_all(self) -> None:
        screen = self.linked_terminal(2)
        queue = self.others[1].messages()
        self.type_all(screen, b"one\ntwo", after=5)
        self.assertFalse(self.stopping)
        while queue.take() is not None:
            pass
        self.network.advance(1)
        self.assertTrue(self.stopping)
        self.network.advance(3)
        self.assertEqual(self.status, 0)
        self.assertCountEqual(
            self.lines(), [f"mesh: line {n}: {has} of 2 have it" for n in (1, 2) for has in range(3)]
        )

    def test_a_member_that_has_not_all_in_time_is_a_reason_to_end_with_1(self) -> None:
        screen = self.linked_terminal(2)
        queue = self.others[1].messages()
        self.type_all(screen, b"one\n" + b"x" * MIB + b"\ntwo\n", after=LIMITS["handover_timeout"] + 0.1)
        self.network.advance(3)
        self.assertEqual(self.status, 1)
        self.assertEqual(
            self.lines()[-1],
            "mesh: 1 line was too long and not sent; 2 lines were not known to be with everybody",
        )
        self.assertEqual(len(queue), 2)

    def test_alone_nobody_has_it(self) -> None:
        screen = self.linked_terminal(0)
        self.type_in(screen, b"anyone?\n", after=1)
        self.assertEqual(self.lines(), ["mesh: line 1: 0 of 0 have it"])
        other = self.node()
        self.link((other, self.own_node), after=1)
        self.assertEqual(self.lines()[-1], "mesh: line 1: 1 of 1 have it")
        MeshCase.stop(self, other)  # type: ignore[arg-type]
        self.network.advance(200)
        self.assertEqual(dict(self.own_node.members), {})
        self.type_in(screen, b"still?\n", after=1)
        (line,) = self.lines()
        self.assertRegex(line, "^mesh: line 2: 0 of 0 have it; no other member is known that could")
        self.end_input(screen, after=15)
        self.assertEqual(self.status, 1)

    def test_who_missed_it_is_counted(self) -> None:
        screen = self.linked_terminal(2)
        self.kill(self.others[1])
        self.type_in(screen, b"x\n", after=200)
        self.assertEqual(self.lines()[-1], "mesh: line 1: 1 of 2 have it, 1 missed it")

    def test_input_is_read_no_faster_than_receipts_come_in(self) -> None:
        screen = self.linked_terminal(1, receipts_limit=8)
        queue = self.others[0].messages()
        self.type_in(screen, TWENTY_LINES, after=1)
        self.assertFalse(screen.reads)
        self.assertEqual(len(queue), 4)
        got = []
        while len(got) < 20:
            message = queue.take()
            if message is None:
                self.network.advance(0.5)
            else:
                got.append(message.packets[1])
        self.network.advance(1)
        self.assertTrue(screen.reads)
        self.assertEqual(got, [str(number) for number in range(20)])
        self.assertEqual(sum("1 of 1 have it" in line for line in self.lines()), 20)

    def test_but_for_a_member_that_does_not_answer_only_once(self) -> None:
        screen = self.linked_terminal(1, receipts_limit=8)
        queue = self.others[0].messages()
        self.type_all(screen, TWENTY_LINES, after=LIMITS["handover_timeout"] + 1)
        self.assertEqual(len(queue), 20)
        closed = [line for line in self.lines() if line.endswith("; too many receipts are open")]
        self.assertEqual(len(closed), 12)
        self.network.advance(2 * LIMITS["handover_timeout"])
        self.assertEqual(self.status, 1)
        self.assertEqual(self.lines(), ["mesh: 20 lines were not known to be with everybody"])

    def test_a_signal_meanwhile_is_no_reason(self) -> None:
        screen = self.linked_terminal(1)
        queue = self.others[0].messages()
        self.type_all(screen, b"x")
        self.stop()
        self.network.advance(20)
        self.assertEqual(self.status, 0)
        self.assertEqual(len(queue), 1)

"""The messages to a user if the history file cannot be used, and how the node goes on."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

from tests.support.processes import ANYWHERE, TWISTD, ProcessCase, readable
from tests.support.stores import ANNA, batch_of, flush_of, open_store
from twisted_mesh.identity import Identity, id_of
from twisted_mesh.network import SSL, Protocol

PAGE = 4096
SENT = 400  # messages of the size of a page


class RefusedTests(ProcessCase):
    async def test_each_fault_is_one_line_and_the_file_stays_as_it_was(self) -> None:
        good = self.directory / "good"
        origin = Identity.create(self.directory / "key").origin
        store = open_store(good, network=Protocol("mesh", SSL).id, origin=origin)
        store.flush(flush_of(*(batch_of(ANNA, number, size=PAGE) for number in range(1, 20))))
        store.close()
        whole = good.read_bytes()
        (self.directory / "newer").write_bytes(whole)
        with closing(sqlite3.connect(self.directory / "newer")) as newer:
            newer.execute("PRAGMA user_version = 99")
        (self.directory / "anothers").write_bytes(whole)
        with closing(sqlite3.connect(self.directory / "anothers")) as anothers:
            anothers.execute("UPDATE about SET origin = ?", ANNA[:1])
            anothers.commit()
        with closing(sqlite3.connect(self.directory / "other")) as other:
            other.execute("CREATE TABLE albums (title TEXT)")
        (self.directory / "cut").write_bytes(whole[: len(whole) // 2])
        at = whole.index(ANNA[0])
        (self.directory / "damaged").write_bytes(whole[:at] + b"\xff" * 99 + whole[at + 99 :])
        (self.directory / "text").write_text("no database\n" * 100)
        faults = {
            "newer": "is of version 99, which this twisted_mesh does not know",
            "anothers": f"is of the node {id_of(ANNA[0]).decode()}: name another file, or the identity",
            "other": "is not a history of twisted_mesh: name another file",
            "text": "is not a history of twisted_mesh: name another file",
            "cut": "is damaged (",
            "damaged": "is damaged (",
            "nowhere/history": "there is no such folder",
        }
        if os.path.isdir("/proc/self"):  # a folder in which not even root can write
            faults["/proc/history"] = "cannot be written ("
        before = {path: path.read_bytes() for path in self.directory.iterdir()}
        arguments = ("-n", "--pidfile=", "mesh", f"--listen={ANYWHERE}", "--print", "--identity=key")
        children = [self.fork(TWISTD[-1], *arguments, f"--history={name}") for name in faults]
        self.assertEqual(await self.until_ended(*children), [1] * len(faults))
        for child, (name, told) in zip(children, faults.items(), strict=True):
            lines = [line for line in child.log.splitlines() if "mesh: " in line]
            self.assertEqual(len(lines), 1, str(child))
            self.assertIn(f"mesh: history {self.directory / name}", lines[0])
            self.assertIn(told, lines[0])
            self.assertEqual(child.out, b"")
        self.assertEqual({path: path.read_bytes() for path in self.directory.iterdir()}, before)

    async def test_a_file_in_use_is_told_and_free_again_after_a_kill(self) -> None:
        first = self.mesh("--print", "--identity=key", "--history=history")
        await self.until_listening(first)
        second = self.mesh("--print", "--identity=key2", "--history=./history")
        self.assertEqual(await self.until_ended(second), [1])
        self.assertIn("is in use by another node: give each a file of its own", second.log)
        self.assertIsNone(first.status)
        first.signal("KILL")
        await self.until_ended(first)
        await self.until_listening(self.mesh("--print", "--identity=key", "--history=history"))


class BlockedPipeTests(ProcessCase):
    async def test_who_does_not_read_for_a_while_delays_nobody_and_has_everything_later(self) -> None:
        author, other = self.mesh("--no-overlay", "--stdio"), self.mesh("--no-overlay", "--stdio")
        await self.until_listening(author, other)
        reads, writes = os.pipe()
        self.addCleanup(os.close, reads)
        os.set_blocking(reads, False)
        options = ("--print", "--identity=key", "--history=history")
        node = self.mesh(*options, peers=(author, other), fds={0: "w", 1: writes, 2: "r"})
        os.close(writes)
        await self.until(lambda: author.links == other.links == 1)
        for first in range(0, SENT, 20):
            texts = [f"{number} ".ljust(PAGE, "x") for number in range(first, first + 20)]
            author.type("\n".join(texts) + "\n")
            await self.until(lambda first=first: len(other.lines) == first + 20)
        await self.until(lambda: self.marks()[0] == SENT)
        _, taken = self.marks()
        self.assertLess(taken * PAGE, 2**18)  # the pipe and its writer hold less than that
        read = bytearray()

        def numbers() -> list[int]:
            while readable(reads):
                read.extend(os.read(reads, 2**16))
            events = [json.loads(line) for line in read.decode().split("\n")[:-1]]
            self.assertEqual([event for event in events if event["event"] == "gap"], [])
            return [int(event["packets"][0].split()[0]) for event in events if event["event"] == "message"]

        await self.until(lambda: len(numbers()) == SENT)
        self.assertEqual(numbers(), list(range(SENT)))
        await self.until(lambda: self.marks() == (SENT, SENT))
        node.signal("TERM")
        await self.until_ended(node)
        again = self.mesh(*options, peers=(author,))
        await self.until(lambda: again.event("connect"))
        author.type(f"{SENT}\n")
        await self.until(lambda: again.event("message"))
        self.assertEqual(again.event("message")["packets"], [str(SENT)])

    def marks(self) -> tuple[int, int]:
        """The stored head and taken mark of the author's run, read while the node writes."""
        with closing(sqlite3.connect(f"file:{self.directory}/history?mode=ro", uri=True)) as reader:
            rows = reader.execute("SELECT head, taken FROM stream").fetchall()
        return max(rows, default=(0, 0))

"""Processes die or stand still: messages sent meanwhile arrive, or are told as lost."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.length import LONG, at_length
from tests.support.processes import ROOT, Child, ProcessCase, reactor

STOPPED = at_length(60.0, 3.0)  # seconds; a link is given up after 15
ROUNDS = 3
LINES = 500
LOAD = ROOT / "tests" / "support" / "load.tac"
SEQUENCE = re.compile(rb'^{"event": "message", .{0,300}?"sequence": (\d+), ')


class RestartedRelayTests(ProcessCase):
    async def test_what_was_said_while_the_middle_was_dead_arrives_once_and_in_order(self) -> None:
        ends = [self.mesh("--no-overlay", "--stdio") for _ in range(2)]
        await self.until_listening(*ends)
        said: list[str] = []

        def say() -> None:
            """Type some lines at both ends."""
            lines = [f"line {number}" for number in range(len(said), len(said) + LINES)]
            said.extend(lines)
            for end in ends:
                end.type("".join(f"{line}\n" for line in lines))

        async def all_said_is_there() -> None:
            await self.until(lambda: all(len(end.lines) >= len(said) for end in ends))
            for end in ends:
                self.assertEqual(end.lines, said)

        for round_ in range(ROUNDS):
            middle = self.mesh("--no-overlay", peers=(ends[0], ends[1]))  # it has no history file
            await self.until(lambda: [end.links for end in ends] == [1, 1])
            say()
            if round_ == 0:
                await all_said_is_there()
            # In later rounds it is killed with lines that it has not passed on.
            middle.signal("KILL")
            await self.until_ended(middle)
            say()
            await self.until(lambda: [end.links for end in ends] == [0, 0])
            say()
        self.mesh("--no-overlay", peers=(ends[0], ends[1]))
        await all_said_is_there()
        for end in ends:
            self.assertNotRegex(end.log, "(is|are) lost: ")
            end.end_input()
        self.assertEqual(await self.until_ended(*ends), [0, 0])


class Reader(Child):
    """A node with ``--print`` of which only the numbers are kept.

    :ivar got: of the messages, in the order they came.
    :ivar gaps: (first, last, reason) of those told to be lost.
    """

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self.got: list[int] = []
        self.gaps: list[tuple[int, int, str]] = []
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if number := SEQUENCE.match(line):
                self.got.append(int(number[1]))
                continue
            self.out += line + b"\n"
            event = json.loads(line)
            if event["event"] == "gap":
                self.gaps.append((event["first"], event["last"], event["reason"]))

    @property
    def known(self) -> int:
        """The highest number it got or was told to be lost."""
        return max(self.got[-1:] + [last for _, last, _ in self.gaps], default=0)


class StoppedReaderTests(ProcessCase):
    timeout = at_length(400, 100)

    def load(self) -> dict[str, Any]:
        """The state that the sender writes to its file."""
        file = self.directory / "load.json"
        return json.loads(file.read_text()) if file.exists() else {"sent": 0}

    async def keeps_up(self, reader: Reader, seconds: float) -> None:
        """Assert for so many *seconds* that *reader* has each message soon after it was sent."""
        end = reactor.seconds() + seconds
        while reactor.seconds() < end:
            sent, at = self.load()["sent"], reactor.seconds()
            await self.until(lambda sent=sent: reader.known >= sent, deadline=10)
            await self.until(lambda at=at: reactor.seconds() >= at + 0.2)

    async def test_a_reader_that_stands_still_under_load_delays_nobody_and_is_told_of_gaps(self) -> None:
        sender = self.twistd("-y", str(LOAD))
        await self.until_listening(sender)
        peer = f"--peer=127.0.0.1:{sender.ports[0]}"
        options = (peer, "--no-overlay", "--print")
        fast, slow = (self.twistd("mesh", *options, kind=Reader) for _ in range(2))
        await self.until(lambda: min(fast.known, slow.known) > 100)
        slow.signal("STOP")
        before = self.load()["sent"]
        await self.keeps_up(fast, STOPPED)
        (self.directory / "stop").touch()
        await self.until(lambda: self.load()["ended"])
        load = self.load()
        await self.until(lambda: fast.known == load["sent"], deadline=10)
        # It stood still all the time, while more was sent than a link's queue may hold.
        self.assertLess(slow.known, load["sent"])
        self.assertGreater((load["sent"] - before) * 20_000, 8 * 2**20)
        self.assertGreater(load["owed"], 0)
        self.assertLess(load["queued"], 3 * 4 * 2**20)
        slow.signal("CONT")
        await self.until(lambda: slow.known == load["sent"], deadline=at_length(150, 30))
        everything = list(range(1, load["sent"] + 1))
        self.assertEqual((fast.got, fast.gaps), (everything, []))
        lost = [number for first, last, _ in slow.gaps for number in range(first, last + 1)]
        self.assertEqual(slow.got, sorted(slow.got))
        self.assertEqual(sorted(slow.got + lost), everything)
        if not LONG:  # The history holds all of it, but the output may be slower than the mesh.
            self.assertLessEqual({reason for _, _, reason in slow.gaps}, {"the consumer was too slow"})

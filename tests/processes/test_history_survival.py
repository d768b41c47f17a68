"""A node with a history file is killed at any moment: nothing is missing, and little comes again."""

from __future__ import annotations

import os
from random import Random

from tests.support.length import at_length
from tests.support.processes import Child, ProcessCase, eventually, reactor

#: The number of kills, at moments drawn from a seed; the environment can ask for more.
KILLS = int(os.environ.get("MESH_KILLS", at_length("50", "5")))


class KilledTests(ProcessCase):
    timeout = 60 + 5 * KILLS

    async def test_killed_while_it_sends_receives_and_stores_it_misses_nothing(self) -> None:
        self.random = Random(5)
        self.said = 0  # numbers that the other node was given to send
        self.other = self.mesh("--stdio")
        await self.until_listening(self.other)
        heard: list[int] = []
        again = 0
        for life in range(KILLS + 1):
            node = self.mesh("--stdio", "--identity=key", "--history=history", peers=(self.other,))
            await self.until(lambda node=node: node.links or node.lines)
            await self.say(node, life, self.random.uniform(0.0, 0.4))
            if life < KILLS:
                node.signal("KILL")
                await self.until_ended(node)
            else:
                await self.until(lambda node=node: node.lines and node.lines[-1] == str(self.said - 1))
                node.end_input()
                self.assertEqual(await self.until_ended(node), [0])
            self.assert_whole("history")
            self.assertNotRegex(node.log, "(is|are) lost: ")
            numbers = [int(line) for line in node.lines]
            if numbers:
                # In order, and without a hole behind the lines that earlier lives printed.
                self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)), str(node))
                after = heard[-1] + 1 if heard else 0
                self.assertLessEqual(numbers[0], after)
                again += after - numbers[0]
                heard += numbers
        self.assertEqual(sorted(set(heard)), list(range(self.said)))
        self.assertLess(again, self.said)
        self.check_other(KILLS + 1)

    async def say(self, node: Child, life: int, seconds: float) -> None:
        """Let both nodes speak for a while."""
        until = reactor.seconds() + seconds
        mine = 0
        while reactor.seconds() < until:
            self.other.type("".join(f"{number}\n" for number in range(self.said, self.said + 5)))
            node.type("".join(f"{life} {number}\n" for number in range(mine, mine + 5)))
            self.said += 5
            mine += 5
            moment = reactor.seconds() + self.random.uniform(0.0, 0.02)
            await eventually(lambda moment=moment: reactor.seconds() > moment)

    def check_other(self, lives: int) -> None:
        """Assert that the other node has the first lines of each life, once and in order."""
        for life in range(lives):
            got = [int(line.split()[1]) for line in self.other.lines if line.split()[0] == str(life)]
            self.assertEqual(got, list(range(len(got))), str(self.other))

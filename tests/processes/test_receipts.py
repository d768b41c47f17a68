"""Nine processes, and one of them away when a receipt is asked for: it is named, and then has it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.processes import ANYWHERE, TWISTD, Child, ProcessCase

NODES = 8  # and the script, which asks
VICTIM = 4
ASKER = f"""
import queue, sys
from twisted_mesh import MeshSocket

news = queue.SimpleQueue()
sock = MeshSocket("127.0.0.1", 0, peers=sys.argv[1:])
sock.on("member", lambda member: news.put(member.state))
sock.on("receipt", lambda receipt: news.put("receipt"))
while [member.state for member in sock.members.values()] != ["up"] * {NODES}:
    news.get()
sock.send("all there", receipt=True).complete()  # stored, too: who is killed before that is a newcomer
print("all there", flush=True)
while news.get() != "suspect":
    pass
receipt = sock.send("who has it?", receipt=True)
while len(receipt.pending) != 1:
    news.get()
print(len(receipt.delivered), *(member.decode() for member in receipt.pending), flush=True)
receipt.complete()
print(len(receipt.delivered), flush=True)
"""


class ReceiptTests(ProcessCase):
    async def test_who_was_killed_before_it_was_asked_for_is_pending_and_then_has_it(self) -> None:
        first = self.node(0)
        await self.until(lambda: self.told(first, "listening"))
        nodes = [first, *(self.node(number, first) for number in range(1, NODES))]
        asker = self.fork(ASKER, self.address(first))
        await self.until(lambda: asker.lines)
        victim = nodes[VICTIM]
        (listening,) = self.told(victim, "listening")
        victim.signal("KILL")
        await self.until_ended(victim)
        await self.until(lambda: len(asker.lines) > 1)
        self.assertEqual(asker.lines[1], f"{NODES - 1} {listening['id']}")
        nodes[VICTIM] = self.node(VICTIM, first)
        self.assertEqual(await self.until_ended(asker), [0])
        self.assertEqual(asker.lines[2:], [str(NODES)])
        for node in nodes:
            heard = [message["packets"] for message in self.told(node, "message")]
            before = [] if node is nodes[VICTIM] else [["all there"]]
            self.assertEqual(heard, [*before, ["who has it?"]])

    async def test_a_line_from_a_pipe_ends_with_0_when_everybody_has_it(self) -> None:
        first = self.node(0)
        await self.until(lambda: self.told(first, "listening"))
        port = int(self.address(first).split(":")[1])
        pipe = self.mesh("--stdio", "--receipts", peers=(port,))
        pipe.type("fire")
        pipe.end_input()
        self.assertEqual(await self.until_ended(pipe), [0])
        self.assertEqual(pipe.out, b"")
        self.assertEqual(
            [line for line in pipe.log.splitlines() if line.startswith("mesh: line")][-1],
            "mesh: line 1: 1 of 1 have it",
        )
        await self.until(lambda: self.told(first, "message"))

    def node(self, number: int, *peers: Child) -> Child:
        """The node with that number, as it was if it ran before."""
        files = (f"--identity=key{number}", f"--history=history{number}", "--print")
        to = [f"--peer={self.address(peer)}" for peer in peers]
        return self.fork(TWISTD[-1], "-n", "--pidfile=", "mesh", f"--listen={ANYWHERE}", *files, *to)

    def told(self, node: Child, name: str) -> list[Any]:
        """The events of that *name*, of the lines that are whole."""
        return [event for line in node.lines if (event := json.loads(line))["event"] == name]

    def address(self, node: Child) -> str:
        """Where *node* listens."""
        (listening,) = self.told(node, "listening")
        return f"127.0.0.1:{listening['port']}"

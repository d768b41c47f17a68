"""A node as a part of something: an ``Application``, ``twist``, ``twistd``."""

from __future__ import annotations

import json
import signal

from tests.support.processes import ANYWHERE, ROOT, TWIST, ProcessCase

TAC = ROOT / "tests" / "support" / "node.tac"
PROMPT = 5.0  # seconds in which a node ends that has nothing to hand over, also on a busy machine


class CompositionTests(ProcessCase):
    async def test_node_in_an_application_links_with_nodes_of_twist_and_twistd(self) -> None:
        (self.directory / "node.json").write_text(json.dumps({"listen": [ANYWHERE]}))
        application = self.twistd("-y", str(TAC))
        await self.until_listening(application)
        peer = f"--peer=127.0.0.1:{application.ports[0]}"
        by_twistd = self.twistd("mesh", peer, "--stdio")
        by_twist = self.start(*TWIST, "--log-format=text", "mesh", peer, "--stdio")
        ends = [by_twistd, by_twist]
        await self.until(lambda: all(node.links for node in ends))
        greeting = "hello from the application"
        await self.until(lambda: any(greeting in node.lines for node in ends))
        by_twistd.type("from twistd\n")
        by_twist.type("from twist\n")
        await self.until(lambda: "from twist" in by_twistd.lines and "from twistd" in by_twist.lines)
        status = self.directory / "status.json"

        def heard() -> bool:
            received = json.loads(status.read_text())["received"] if status.exists() else []
            return sorted(received) == [["from twist"], ["from twistd"]]

        await self.until(heard)
        # A signal ends each, and says goodbye to those that stay.
        by_twist.signal("TERM")
        self.assertEqual(await self.until_ended(by_twist, deadline=PROMPT), [-signal.SIGTERM])
        application.signal("INT")
        self.assertEqual(await self.until_ended(application, deadline=PROMPT), [-signal.SIGINT])
        await self.until(lambda: "the node stops [leaving]" in by_twistd.log)
        self.assertEqual(application.out.count(b"the node stops [leaving]"), 1 + 1)
        by_twistd.signal("INT")
        self.assertEqual(await self.until_ended(by_twistd, deadline=PROMPT), [-signal.SIGINT])

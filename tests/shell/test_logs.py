"""Log lines about peers are bounded."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.logs import PeerLog


class TestPeerLog(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        logger = Logger(observer=lambda event: self.lines.append(formatEvent(event)))
        config = MeshConfig(log_burst=2, log_interval=10.0, log_hosts=3)
        self.log = PeerLog(logger, self.clock.seconds, config)

    def test_a_burst_and_then_one_line_for_the_rest(self) -> None:
        for number in range(5):
            self.log.line("h", f"line {number}")
        self.assertEqual(self.lines, ["line 0", "line 1"])
        self.clock.advance(10)
        self.log.line("h", "next")
        self.assertEqual(self.lines[2:], ["next (3 more lines about this host were held back)"])
        self.clock.advance(10)
        self.log.line("h", "last")
        self.assertEqual(self.lines[3:], ["last"])

    def test_hosts_have_a_quota_each(self) -> None:
        for host in "aab":
            self.log.line(host, host)
        self.assertEqual(self.lines, ["a", "a", "b"])

    def test_log_hosts_forgets_the_oldest(self) -> None:
        for host in "aaabcd":
            self.log.line(host, host)
        self.assertEqual(len(self.log._quotas), 3)
        self.log.line("a", "a again")
        self.assertEqual(self.lines[-1], "a again")

    def test_braces_are_no_fields(self) -> None:
        self.log.line("h", "{secret} {0}")
        self.assertEqual(self.lines, ["{secret} {0}"])

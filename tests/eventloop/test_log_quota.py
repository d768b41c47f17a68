"""Log lines about peers are bounded."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.eventloop.log_quota import AuthorLog, PeerLog, QuotaFilter

CONFIG = MeshConfig(log_burst=2, log_interval=10.0, log_hosts=3, log_lines=5)


class LogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.logger = Logger(observer=lambda event: self.lines.append(formatEvent(event)))


class TestPeerLog(LogTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = PeerLog(self.logger, self.clock.seconds, CONFIG)

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
        for _ in range(2):
            self.log.line("h", "too many")
        self.clock.advance(10)
        self.log.line("h", "after one")
        self.assertEqual(self.lines[5:], ["after one (1 more line about this host was held back)"])

    def test_hosts_have_a_quota_each(self) -> None:
        for host in "aab":
            self.log.line(host, host)
        self.assertEqual(self.lines, ["a", "a", "b"])

    def test_log_hosts_forgets_the_oldest(self) -> None:
        config = replace(CONFIG, log_lines=6)
        self.log = PeerLog(self.logger, self.clock.seconds, config)
        for host in "aaabcd":
            self.log.line(host, host)
        self.assertEqual(len(self.log._quotas), 3)
        self.log.line("a", "a again")
        self.assertEqual(self.lines[-1], "a again")

    def test_and_all_of_them_have_one_so_that_many_hosts_are_no_use(self) -> None:
        for host in "abcdefgh":
            self.log.line(host, host)
        self.assertEqual(self.lines, ["a", "b", "c", "d", "e"])
        self.clock.advance(10)
        self.log.line("z", "z")
        self.assertEqual(self.lines[5:], ["z (3 more lines about other hosts were held back)"])

    def test_braces_are_no_fields(self) -> None:
        self.log.line("h", "{secret} {0}")
        self.assertEqual(self.lines, ["{secret} {0}"])


class TestAuthorLog(LogTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = AuthorLog(self.logger, self.clock.seconds, CONFIG)

    def tell(self, authors: bytes) -> str:
        """Ask to log a line about each of *authors*, one byte each; return those that were logged."""
        before = len(self.lines)
        for author in authors:
            self.log.line(bytes([author]), chr(author))
        return " ".join(self.lines[before:])

    def test_each_author_has_a_quota(self) -> None:
        self.assertEqual(self.tell(b"aaaab"), "a a b")

    def test_and_all_of_them_have_one_so_that_keys_are_no_use(self) -> None:
        self.assertEqual(self.tell(b"abcdefgh"), "a b c d e")
        self.assertEqual(len(self.log._lines), 5)

    def test_how_many_were_held_back_is_told_when_the_quota_is_open_again(self) -> None:
        self.tell(b"aaaabcdef")
        self.clock.advance(9.9)
        self.assertEqual(self.tell(b"abc"), "")
        self.clock.advance(0.1)
        self.assertEqual(self.tell(b"bab"), "b (7 more lines about authors were held back) a b")
        self.clock.advance(100)
        self.assertEqual(self.tell(b"a"), "a")

    def test_braces_are_no_fields(self) -> None:
        self.log.line(b"a", "{secret} {0}")
        self.assertEqual(self.lines, ["{secret} {0}"])


class TestQuotaFilter(LogTestCase):
    def test_each_kind_of_line_has_a_quota(self) -> None:
        observer = QuotaFilter(self.logger.observer, self.clock.seconds, CONFIG)
        log = Logger(observer=observer)
        for number in range(9):
            log.info("closed {number}", number=number)
        log.info("no descriptor")
        self.assertEqual(self.lines, ["closed 0", "closed 1", "no descriptor"])
        self.clock.advance(10)
        log.info("closed {number}", number=9)
        log.info("no descriptor")
        more = "closed 9 (7 more lines like this were held back)"
        self.assertEqual(self.lines[3:], [more, "no descriptor"])

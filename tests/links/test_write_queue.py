"""One link's outgoing frames."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_mesh.errors import Unreachable
from twisted_mesh.links.write_queue import WriteQueue


class TestWriteQueue(SynchronousTestCase):
    def setUp(self) -> None:
        self.written: list[bytes] = []
        self.resumed = 0
        self.queue = WriteQueue(self.written.append, 10, self.resume)
        verifyObject(IPushProducer, self.queue)

    def resume(self) -> None:
        self.resumed += 1

    def test_frames_are_joined_up_to_write_bytes(self) -> None:
        for frame in (b"aaaa", b"bbbb", b"cccc", b"dddd", b"e" * 50):
            self.queue.put(frame)
        self.assertEqual(self.queue.queued_bytes, 66)
        self.queue.flush()
        self.assertEqual(self.written, [b"aaaabbbbcccc", b"dddd" + b"e" * 50])
        self.assertEqual(self.queue.queued_bytes, 0)

    def test_bytes_of_counted_frames_alone_are_accepted(self) -> None:
        self.queue.put(b"a" * 10, counted=True)
        self.queue.put(b"b")
        self.queue.put_awaited(b"c" * 10)
        self.queue.put(b"d" * 12, counted=True)
        self.assertEqual(self.queue.accepted, 0)
        self.queue.flush()
        self.assertEqual(self.queue.accepted, 22)
        self.queue.put(b"never", counted=True)
        self.queue.drop("gone")
        self.queue.flush()
        self.assertEqual(self.queue.accepted, 22)

    def test_what_waits_while_the_transport_is_paused_is_not_accepted(self) -> None:
        self.queue.pauseProducing()
        self.queue.put(b"a", counted=True)
        self.queue.flush()
        self.assertEqual(self.queue.accepted, 0)
        self.queue.flush(everything=True)
        self.assertEqual(self.queue.accepted, 1)

    def test_nothing_is_written_while_paused(self) -> None:
        self.queue.pauseProducing()
        taken = self.queue.put_awaited(b"a")
        self.queue.flush()
        self.assertNoResult(taken)
        self.queue.resumeProducing()
        self.assertEqual((self.resumed, self.written), (1, []))
        self.queue.flush()
        self.successResultOf(taken)

    def test_everything_at_the_end(self) -> None:
        self.queue.pauseProducing()
        self.queue.put(b"a")
        self.queue.flush(everything=True)
        self.assertEqual(self.written, [b"a"])

    def test_what_is_dropped_fails_and_is_not_written(self) -> None:
        taken = self.queue.put_awaited(b"a")
        self.queue.put(b"b")
        self.queue.drop("gone")
        self.queue.flush()
        self.assertEqual((self.written, self.queue.queued_bytes), ([], 0))
        self.assertEqual(str(self.failureResultOf(taken, Unreachable).value), "gone")

    def test_dropping_while_it_flushes(self) -> None:
        first = self.queue.put_awaited(b"a" * 10)
        second = self.queue.put_awaited(b"b" * 10)
        first.addCallback(lambda _: self.queue.drop("closed by who was told"))
        self.queue.flush()
        self.assertEqual(self.written, [b"a" * 10])
        self.failureResultOf(second, Unreachable)

    def test_a_transport_that_is_gone(self) -> None:
        self.queue.stopProducing()
        self.queue.put(b"a")
        self.queue.flush()
        self.assertEqual(self.written, [])

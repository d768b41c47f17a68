"""Frames out of a stream of bytes."""

from __future__ import annotations

import random
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.framing import (
    HANDSHAKE_FRAME_BYTES,
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    FrameReader,
    frame,
)


class TestFrameReader(SynchronousTestCase):
    def assert_refused(self, reader: FrameReader, data: bytes) -> None:
        error = self.assertRaises(RemoteError, list, reader.feed(data))
        self.assertIs(error.reason, Reason.FRAMING)

    def test_a_frame_is_its_length_and_its_payload(self) -> None:
        self.assertEqual(frame(b"abc"), b"\0\0\0\3abc")
        self.assertEqual(list(FrameReader().feed(b"\0\0\0\3abc")), [b"abc"])

    def test_how_the_chunks_were_cut_never_matters(self) -> None:
        payloads = [b"a", b"bc" * 300, b"\0\0\0\1", b"d" * 5]
        stream = b"".join(map(frame, payloads))
        for size in range(1, len(stream) + 1):
            reader, got = FrameReader(), []
            for at in range(0, len(stream), size):
                got += reader.feed(stream[at : at + size])
            self.assertEqual(got, payloads)
            self.assertEqual(reader.kept, 0)

    def test_what_is_there_of_a_frame_is_told(self) -> None:
        reader = FrameReader()
        self.assertEqual((reader.kept, reader.need, reader.head(3)), (0, 4, b""))
        self.assertEqual(list(reader.feed(b"\0\0\0")), [])
        self.assertEqual((reader.kept, reader.need, reader.head(3)), (3, 4, b""))
        self.assertEqual(list(reader.feed(b"\5a")), [])
        self.assertEqual((reader.kept, reader.need, reader.head(3)), (5, 9, b"a"))
        self.assertEqual(list(reader.feed(b"bcd")), [])
        self.assertEqual((reader.kept, reader.need, reader.head(3)), (8, 9, b"abc"))
        self.assertEqual(list(reader.feed(b"e\0\0\0\1f")), [b"abcde", b"f"])
        self.assertEqual((reader.kept, reader.need, reader.head(3)), (0, 4, b""))

    def test_an_empty_chunk_changes_nothing(self) -> None:
        reader = FrameReader()
        self.assertEqual(list(reader.feed(b"")), [])
        self.assertEqual(list(reader.feed(b"\0\0\0\2a")), [])
        self.assertEqual(list(reader.feed(b"")), [])
        self.assertEqual(list(reader.feed(b"b")), [b"ab"])

    def test_payloads_are_bytes_of_their_own(self) -> None:
        reader = FrameReader()
        got = [*reader.feed(b"\0\0\0\1a\0\0\0\2b"), *reader.feed(b"c\0")]
        self.assertEqual([(type(payload), payload) for payload in got], [(bytes, b"a"), (bytes, b"bc")])

    def test_an_empty_frame_is_refused(self) -> None:
        self.assert_refused(FrameReader(), bytes(4))

    def test_a_length_beyond_the_limit_is_refused_before_a_byte_is_kept(self) -> None:
        for length in (HANDSHAKE_FRAME_BYTES + 1, 2**31, 2**32 - 1):
            reader = FrameReader()
            self.assert_refused(reader, length.to_bytes(4, "big") + b"GET / HTTP/1.1")
            self.assertEqual(reader.kept, 0)

    def test_a_length_beyond_the_limit_is_refused_as_soon_as_it_is_whole(self) -> None:
        reader = FrameReader()
        for byte in (b"\xff", b"\xff", b"\xff"):
            self.assertEqual(list(reader.feed(byte)), [])
        self.assert_refused(reader, b"\xff")
        self.assertEqual(reader.kept, 0)

    def test_a_frame_of_exactly_the_limit_is_taken(self) -> None:
        for limit in (1, 100, MAX_FRAME_BYTES):
            self.assertEqual(list(FrameReader(limit).feed(frame(bytes(limit)))), [bytes(limit)])
            self.assert_refused(FrameReader(limit), frame(bytes(limit + 1)))

    def test_frames_before_a_bad_one_are_given_out(self) -> None:
        payloads = FrameReader().feed(frame(b"good") + bytes(4))
        self.assertEqual(next(payloads), b"good")
        self.assertRaises(RemoteError, next, payloads)

    def test_a_new_limit_holds_from_the_next_frame_on(self) -> None:
        reader = FrameReader(10)
        for payload in reader.feed(frame(b"first") + frame(bytes(99)) + frame(b"third")):
            reader.limit = 100 if payload == b"first" else 4
            if payload == bytes(99):
                break
        self.assert_refused(reader, frame(b"third"))

    def test_a_new_limit_holds_for_a_frame_that_has_only_begun(self) -> None:
        reader = FrameReader(100)
        self.assertEqual(list(reader.feed(frame(bytes(99))[:50])), [])
        reader.limit = 98
        self.assert_refused(reader, frame(bytes(99))[50:])

    def test_a_frame_in_tiny_chunks_takes_no_more_memory_than_in_one(self) -> None:
        reader = FrameReader()
        whole = frame(random.Random(1).randbytes(HANDSHAKE_FRAME_BYTES))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for at in range(0, len(whole) - 2, 2):
            list(reader.feed(whole[at : at + 2]))
        self.assertEqual(reader.kept, len(whole) - 2)
        self.assertLess(tracemalloc.get_traced_memory()[0], 2 * len(whole))
        self.assertEqual(list(reader.feed(whole[-2:])), [whole[4:]])

    def test_a_frame_has_room_for_the_largest_message(self) -> None:
        self.assertEqual(MAX_MESSAGE_BYTES, 2**20)
        self.assertGreaterEqual(MAX_FRAME_BYTES, 2 + 64 + 256 + 3 + MAX_MESSAGE_BYTES)

"""The question by which way a message came, and its answer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.bodies import unpack_entries
from tests.wire.samples import EPOCH, IDENTITY
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import USERS, Entry, join_entries
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.tracing import (
    MOST_NAMED,
    Known,
    LagAnswer,
    LagQuestion,
    LinksAnswer,
    LinksQuestion,
    Telling,
    WayAnswer,
    WayQuestion,
    unpack,
)

KEY, OTHER = IDENTITY.origin, bytes(range(32))
QUESTION = WayQuestion(KEY, EPOCH, 3)
ANSWER = WayAnswer(Known.CAME, OTHER, True, 2, 1500, True, 7, [KEY, OTHER])
NONE = WayAnswer(Known.MISSING, None, False, 0, 0, False, None, [])


def entry_of(value: Telling) -> Entry:
    """The entry that holds *value*, as it comes out of a body."""
    (entry,) = unpack_entries(join_entries((value.pack(),)))
    return entry


class TestTracing(SynchronousTestCase):
    def test_what_was_packed_comes_out_and_is_no_message_of_an_application(self) -> None:
        links = (LinksQuestion(), LinksAnswer([]), LinksAnswer([KEY, OTHER]))
        values = (QUESTION, ANSWER, NONE, *links, LagQuestion(), LagAnswer(3, 200))
        for value, kind in zip(values, (1, 2, 2, 3, 4, 4, 5, 6), strict=True):
            entry = entry_of(value)
            self.assertEqual(entry[:2], [kind, 0])
            self.assertNotIn(kind, USERS)
            self.assertEqual(unpack(entry), value)
            self.assertEqual(unpack([*entry, "of a later version"]), value)
        for kind in (0, 7, 64):
            self.assertIsNone(unpack([kind, 0]))

    def test_bounds(self) -> None:
        good = entry_of(ANSWER)
        for at, wrong in (
            (2, (-1, 256, None)),
            (3, (b"", bytes(31), bytes(33), "x" * 32, 1)),
            (4, (0, 1, None)),
            (5, (-1, 256)),
            (6, (-1, 2**53 + 1, 0.5, None)),
            (7, (1,)),
            (8, (-1, 2**53 + 1, "1")),
            (9, ([bytes(31)], [None], None, [OTHER] * (MOST_NAMED + 1))),
        ):
            for value in wrong:
                entry = [*good[:at], value, *good[at + 1 :]]
                self.assertRaises(PoisonedBody, unpack, entry)
        self.assertIsNotNone(unpack([*good[:9], [OTHER] * MOST_NAMED]))
        for entry in ([1, 0], [1, 0, KEY, -1, 1], [1, 0, KEY, 1, 0], [1, 0, KEY, 1, MAX_NUMBER + 1]):
            self.assertRaises(PoisonedBody, unpack, entry)
        for entry in ([6, 0], [6, 0, 1], [6, 0, -1, 1], [6, 0, 1, None], [6, 0, 1, 2**64]):
            self.assertRaises(PoisonedBody, unpack, entry)
        for entry in ([4, 0], [4, 0, [OTHER] * (MOST_NAMED + 1)], [4, 0, None]):
            self.assertRaises(PoisonedBody, unpack, entry)

"""Direct messages are sealed: only their destination can read them."""

from __future__ import annotations

import msgspec
from msgspec import structs

from tests.core.network import (
    batch,
    direct,
    forged,
    key_of,
    lacks_key,
    of,
    opened,
    origin_of,
    presence,
    signed_record,
)
from tests.core.node_case import ALL
from tests.core.replies_case import RepliesTestCase
from twisted_mesh.core.events import Deliver, DirectsEnded, Effect, SameKey, SendDirect, SendDirects
from twisted_mesh.core.handshake import Profile
from twisted_mesh.simulation.keys import StandInKeys
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.membership import Presence, Role
from twisted_mesh.wire.replies import (
    MAX_TOGETHER,
    Direct,
    DirectKey,
    SealedMessage,
    SealedText,
    sealing_context,
)
from twisted_mesh.wire.signed import SignedRecord

STRAY = ["stray_directs"]
DAY = 86_400.0


class SealingTestCase(RepliesTestCase):
    def sealed(self, effects: list[Effect], number: int) -> list[Direct]:
        """The DIRECTs that are sent over a link."""
        records = [one.record for one in of(self.all_frames(effects, number), SignedRecord)]
        return [record for record in records if isinstance(record, Direct)]

    def texts(self, effects: list[Effect], number: int, name: str, key: int = 1) -> list[object]:
        """The packets of the direct messages that are sent over a link, opened with a key of *name*."""
        return [packet for one in self.sealed(effects, number) for packet in opened(one, name, key)]

    def answers(self, effects: list[Effect], number: int) -> list[tuple[str, int, Presence]]:
        """The answers that are sent over a link: author and number of the message, and the record."""
        answers = []
        for frame in of(self.all_frames(effects, number), SignedRecord):
            if isinstance(frame.record, DirectKey):
                inner = codec.decode(frame.record.record)
                assert isinstance(inner, SignedRecord) and isinstance(inner.record, Presence)
                name = "dora" if frame.record.origin == origin_of("dora") else "another"
                answers.append((name, frame.record.number, inner.record))
        return answers

    def lines(self, effects: list[Effect]) -> bytes:
        """All bytes that are sent over all links."""
        frames = (frame for number in range(1, 9) for frame in self.all_frames(effects, number))
        return b"".join(codec.encode(frame) for frame in frames)  # type: ignore[arg-type]


class TestSending(SealingTestCase):
    def test_nobody_but_the_destination_can_read_a_message(self) -> None:
        effects = self.send(1, text="nobody else reads this")
        self.assertNotIn(b"nobody else", self.lines(effects))
        self.assertEqual(self.texts(effects, 1, "dora"), ["nobody else reads this"])

    def test_a_repeat_is_sealed_with_the_newest_key_under_the_same_number(self) -> None:
        self.send(1)
        self.receive(1, presence("dora", 2, interval=3_000_000, sealing_key=key_of("dora", 2)))
        effects = self.wait(1)
        self.assertEqual(self.texts(effects, 1, "dora", 2), ["psst"])
        self.assertEqual(self.directs(effects, 1), [("dora", 1, 1)])

    def test_without_a_record_nothing_of_it_is_sent(self) -> None:
        self.up(4, "fred")
        effects = self.send(1, "fred", "first") + self.send(2, "fred", "second") + self.wait(20)
        self.assertEqual({one.sealed for one in self.sealed(effects, 4)}, {b""})
        self.assertEqual(
            {(one.first, one.count) for one in self.sealed(effects, 4)}, {(1, 1)}
        )  # one asks for all
        effects = self.receive(4, presence("fred", interval=3_000_000))
        self.assertEqual(self.texts(effects, 4, "fred"), ["first", "second"])

    def test_without_a_record_it_is_given_up_in_time(self) -> None:
        self.up(4, "fred")
        effects = self.send(1, "fred", "a secret") + self.wait(45)
        self.assertNotIn(b"a secret", self.lines(effects))
        why = "no record with a key of its run came in 45 s: nothing could be sealed"
        self.assertEqual(of(effects, DirectsEnded), [DirectsEnded([1], why)])

    def test_the_author_of_a_message_is_waited_for_though_no_record_of_it_has_come(self) -> None:
        self.receive(1, batch("gina", 1))
        self.assertEqual(of(self.send(1, "gina"), DirectsEnded), [])
        effects = self.wait(40) + self.receive(1, presence("gina", interval=3_000_000))
        self.assertEqual(self.texts(effects, 1, "gina"), ["psst"])

    def test_a_record_of_an_earlier_run_is_none(self) -> None:
        self.open(4, "dora", epoch=2)
        effects = self.receive(4, ALL) + self.send(1)
        self.assertEqual({one.sealed for one in self.sealed(effects, 4)}, {b""})
        self.assertEqual({one.destination_epoch for one in self.sealed(effects, 4)}, {2})

    def test_a_key_that_is_none_lets_the_message_wait(self) -> None:
        self.receive(1, presence("dora", 2, interval=3_000_000, sealing_key=bytes(32)))
        effects = self.send(1)
        self.assertEqual([one.sealed for one in self.sealed(effects, 1)], [b""])
        effects = self.receive(1, presence("dora", 3, interval=3_000_000))
        self.assertEqual(self.texts(effects, 1, "dora"), ["psst"])


class TestAnswers(SealingTestCase):
    """A destination answers that it lacks the key, with its newest record."""

    def newer(self, counter: int = 2) -> SignedRecord:
        return presence("dora", counter, interval=600_000, sealing_key=key_of("dora", 2))

    def test_the_sender_seals_again_under_the_same_number(self) -> None:
        self.send(1)
        effects = self.receive(1, lacks_key("dora", "me", 1, self.newer()))
        self.assertEqual(self.ended(effects), [])
        self.assertEqual(self.entry("dora").rank, (1, 2))
        effects = self.wait(1)
        self.assertEqual(self.texts(effects, 1, "dora", 2), ["psst"])
        self.assertEqual(self.directs(effects, 1), [("dora", 1, 1)])

    def test_the_record_is_handed_on_like_any_other(self) -> None:
        self.send(1)
        effects = self.receive(1, lacks_key("dora", "me", 1, self.newer()))
        self.assertEqual(self.presences(effects, 2), [("dora", 2, 0)])

    def test_answers_without_end_let_the_message_go_no_more_often(self) -> None:
        self.send(1)
        effects: list[Effect] = []
        for counter in range(2, 50):
            effects += self.receive(1, lacks_key("dora", "me", 1, self.newer(counter)))
        self.assertEqual(self.over(effects), [])

    def test_a_false_one_is_dropped_and_its_relay_not_blamed(self) -> None:
        self.send(1)
        good = self.newer()
        known = presence("dora", interval=600_000)
        garbage = structs.replace(lacks_key("dora", "me", 1, good).record, record=b"\x09\x00garbage")
        plain = structs.replace(lacks_key("dora", "me", 1, good).record, record=b"\x13\x00\x91\x07")
        other = direct("dora", "me", 9)
        self.assertEqual(
            self.strays(
                lacks_key("dora", "me", 1, known),
                lacks_key("dora", "me", 1, forged(good)),
                lacks_key("dora", "me", 1, presence("anna", 9)),
                lacks_key("dora", "me", 1, other),
                signed_record(garbage),
                signed_record(plain),
                lacks_key("dora", "me", 2, good),
                lacks_key("dora", "me", 1, good, destination_epoch=2),
                lacks_key("anna", "me", 1, presence("anna", 9)),
                link=1,
            ),
            STRAY * 9,
        )
        self.assertEqual(self.entry("dora").rank, (1, 1))

    def test_without_room_on_the_roster_the_record_is_not_kept(self) -> None:
        self.begin(members_limit=4)
        self.up(4, "fred")
        self.send(1, "fred")
        record = presence("fred", interval=600_000)
        effects = self.receive(4, lacks_key("fred", "me", 1, record))
        self.assertEqual((self.over(effects), self.state("fred")), ([], None))

    def test_a_relay_sends_it_back_as_the_message_came(self) -> None:
        self.receive(3, direct("bert", "dora", 1))
        effects = self.receive(1, lacks_key("dora", "bert", 1, self.newer()))
        self.assertEqual([len(self.answers(effects, number)) for number in (1, 2, 3)], [0, 0, 1])


class TestTaking(SealingTestCase):
    def own(self, effects: list[Effect], number: int = 1) -> Presence:
        """The record in the only answer that is sent over a link."""
        [(_, _, record)] = self.answers(effects, number)
        return record

    def test_what_cannot_be_opened_is_answered_and_not_acknowledged(self) -> None:
        effects = self.receive(1, direct("dora", "me", 1, key=2))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([], []))
        [(name, number, record)] = self.answers(effects, 1)
        self.assertEqual((name, number, record.sealing_key), ("dora", 1, key_of("me")))
        self.assertEqual(self.count("unopened_directs"), 1)
        effects = self.receive(1, direct("dora", "me", 1))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([1], [("dora", 1)]))

    def test_a_text_opens_as_the_message_that_it_was_sealed_for(self) -> None:
        stolen = direct("bert", "me", 1).record
        assert isinstance(stolen, Direct)
        changes: list[dict[str, object]] = [
            {"origin": origin_of("cleo")},
            {"first": 2, "oldest": 2},
            {"count": 2},
            {"epoch": 2},
        ]
        for change in changes:
            effects = self.receive(2, signed_record(structs.replace(stolen, **change)))
            self.assertEqual((self.got(effects), len(self.answers(effects, 2))), ([], 1))

    def test_it_opens_however_often_it_was_sent_and_whatever_was_given_up(self) -> None:
        self.assertEqual(self.got(self.receive(2, direct("bert", "me", 3, oldest=3, tries=5))), [3])

    def test_a_new_key_is_made_every_day_and_the_last_two_open(self) -> None:
        keys = []
        for day in range(3):
            self.receive(1, presence("dora", day + 2, interval=3_000_000))
            keys.append(self.own(self.receive(1, direct("dora", "me", 1, key=9))).sealing_key)
            self.wait(DAY + 3000)
        self.assertEqual(keys, [key_of("me", number) for number in (1, 2, 3)])
        self.receive(1, presence("dora", 9, interval=3_000_000))
        frames = [direct("dora", "me", number, oldest=number, key=number) for number in (1, 2, 3, 4)]
        self.assertEqual([self.got(self.receive(1, frame)) for frame in frames], [[], [], [3], [4]])

    def test_a_repeat_is_acknowledged_without_being_opened(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        effects = self.receive(1, direct("dora", "me", 1, key=2))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([], [("dora", 1)]))

    def test_further_fields_of_the_text_are_ignored(self) -> None:
        body = join_entries([pack_entry(2, ["psst"])])
        text = msgspec.msgpack.encode([[[body, 7, None, {"later": [None]}]], [None], "later"])
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1, text=text))), ["psst"])

    def test_number_and_the_message_that_is_answered_are_sealed_too(self) -> None:
        answers = (origin_of("me"), 1, -3)
        body = join_entries([pack_entry(2, ["yes"])])
        effects = self.handle(SendDirects((SendDirect(7, origin_of("dora"), body, answers),)))
        [sent] = self.sealed(effects, 1)
        keys = StandInKeys(origin_of("dora"))
        keys.renew()
        runs = (sent.origin, sent.epoch, sent.destination, sent.destination_epoch)
        text = keys.decrypt(sent.sealed, sealing_context(*runs, sent.first, sent.count))
        assert text is not None
        self.assertEqual(SealedText.unpack(text), SealedText([SealedMessage(body, 7, answers)]))
        [got] = of(self.receive(1, direct("dora", "me", 1, answers=answers)), Deliver)
        self.assertEqual((got.direct_number, got.answers), (1, answers))

    def test_another_text_is_dropped(self) -> None:
        none, two = b"\x91\x90", SealedText([SealedMessage(join_entries(()), 1, None)] * 2).pack()
        for text in (b"", b"\xc1", b"\x90", b"\x91\xa1x", b"\x80", b"\x91" * 5000, none, two):
            self.assertEqual(self.strays(direct("dora", "me", 1, text=text)), STRAY)

    def test_many_messages_of_more_bytes_than_a_sender_puts_together_are_dropped(self) -> None:
        # Lists and dicts are counted for each body: the bodies of one frame could hold a million of them.
        def bodies(size: int) -> list[SealedMessage]:
            half = join_entries([pack_entry(2, ["x" * (MAX_TOGETHER // 2 - 100)])])
            rest = join_entries([pack_entry(2, ["x" * (size - len(half) - 7)])])
            self.assertEqual(len(half) + len(rest), size)
            return [SealedMessage(body, 1, None) for body in (half, rest)]

        for size, got in ((MAX_TOGETHER + 1, 0), (MAX_TOGETHER, 2)):
            frame = direct("dora", "me", 1, count=2, text=SealedText(bodies(size)).pack())
            self.assertEqual(len(self.got(self.receive(1, frame))), got)
        self.assertEqual(self.count("stray_directs"), 1)
        large = join_entries([pack_entry(2, ["x" * MAX_TOGETHER])])
        self.assertEqual(len(self.got(self.receive(1, direct("dora", "me", 3, body=large)))), 1)

    def test_a_guest_that_has_sent_nothing_tells_its_key_when_it_is_asked(self) -> None:
        self.manner = {"profile": Profile(role=Role.GUEST)}
        self.begin()
        self.assertIsNone(self.node.membership.records.own)
        asks = direct("anna", "me", 1).record
        assert isinstance(asks, Direct)
        effects = self.receive(1, signed_record(structs.replace(asks, sealed=b"")))
        self.assertEqual(self.own(effects).sealing_key, key_of("me"))
        self.assertEqual(self.got(self.receive(1, direct("anna", "me", 1))), [1])

    def test_without_a_record_of_its_own_it_does_not_answer(self) -> None:
        self.manner = {"profile": Profile(role=Role.GUEST)}
        self.begin()
        self.handle(SameKey(9, 5, False))  # another node has this node's key, and publishes
        effects = self.receive(1, direct("anna", "me", 1, key=2))
        self.assertEqual((self.answers(effects, 1), self.got(effects)), ([], []))

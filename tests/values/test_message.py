"""The messages that an application gets."""

from __future__ import annotations

import copy
import pickle

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.errors import LocalError
from twisted_mesh.identity import Identity
from twisted_mesh.message import Member, Message, Source, shown


class Replies:
    """Keeps the replies that are sent."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, tuple[object, ...]]] = []

    def reply_to(self, message: Message, packets: tuple[object, ...]) -> Deferred[None]:
        self.taken.append((message.source.run[0], packets))
        return succeed(None)


class TestMessage(SynchronousTestCase):
    def setUp(self) -> None:
        self.replies = Replies()
        self.source = Source((b"o" * 32, 7), b"sender", 1.5, self.replies)
        self.message = Message([0, 2, b"yes", b"I did"], 9, self.source)

    def test_it_says_what_was_sent_when_and_by_whom(self) -> None:
        self.assertEqual(self.message.type, 2)
        self.assertEqual(self.message.packets, [2, b"yes", b"I did"])
        self.assertEqual((self.message.sender, self.message.time), (b"sender", 1.5))
        self.assertTrue(self.message.verified)

    def test_it_can_be_copied_and_pickled_without_the_way_to_reply(self) -> None:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            self.assert_copy(pickle.loads(pickle.dumps(self.message, protocol)))
        self.assert_copy(copy.deepcopy(self.message))
        self.assert_copy(copy.deepcopy(pickle.loads(pickle.dumps(self.message))))

    def assert_copy(self, copied: Message) -> None:
        """Assert that *copied* equals the message, and says that it cannot be replied to."""
        self.assertEqual(
            (copied.packets, copied.sender, copied.time, copied.id, copied.verified, repr(copied)),
            (*(self.message.packets, b"sender", 1.5, self.message.id, True), repr(self.message)),
        )
        error = self.assertRaises(LocalError, copied.reply, "yes")
        self.assertIn("a copy of a message cannot be replied to", str(error))

    def test_packets_is_a_fresh_list_each_time(self) -> None:
        self.message.packets.clear()
        self.assertEqual(self.message.packets, [2, b"yes", b"I did"])

    def test_its_id_is_the_same_on_every_node_and_a_whisper_has_none(self) -> None:
        self.assertEqual(self.message.id, (b"o" * 32, 7, 9))
        self.assertIsNone(Message([0, 2], None, self.source).id)

    def test_a_direct_message_has_an_id_that_no_other_message_has(self) -> None:
        self.assertEqual(Message([0, 2], None, self.source, 9).id, (b"o" * 32, 7, -9))
        self.assertIsNone(Message([0, 2], None, self.source, 9).in_reply_to)

    def test_a_message_never_changes(self) -> None:
        self.assertRaises(AttributeError, setattr, self.message, "sequence", 5)
        self.assertRaises(AttributeError, setattr, self.message, "packets", [])

    def test_a_reply_goes_to_the_sender(self) -> None:
        self.assertIsNone(self.successResultOf(self.message.reply("thanks", 5)))
        self.assertEqual(self.replies.taken, [(b"o" * 32, ("thanks", 5))])

    def test_its_repr_shows_type_packets_and_sender(self) -> None:
        shown = "message(type=2, packets=[b'yes', b'I did'], sender=b'sender')"
        self.assertEqual(repr(self.message), shown)


class TestMember(SynchronousTestCase):
    def test_nobody_can_change_the_tags_neither_of_it_nor_of_a_copy(self) -> None:
        given = {"a": "b"}
        member = Member(b"id", None, given, None, "member", "up", 0.0, 1)
        given["a"] = "c"
        left = msgspec.structs.replace(member, state="left")
        pickled = pickle.loads(pickle.dumps(member))
        for one in (member, left, copy.copy(member), copy.deepcopy(member), pickled):
            self.assertEqual(one.tags, {"a": "b"})
            with self.assertRaises(TypeError):
                one.tags["a"] = "mine"  # type: ignore[index]
        self.assertEqual(copy.deepcopy(member), member)

    def test_a_member_can_be_compared_and_be_in_a_set(self) -> None:
        member = Member(b"id", None, {"a": "b"}, None, "member", "up", 0.0, 1)
        self.assertEqual(len({member, msgspec.structs.replace(member)}), 1)
        self.assertRaises(AttributeError, setattr, member, "label", "x")


class TestReprs(SynchronousTestCase):
    """At the prompt and in a log it is seen who somebody is."""

    def test_a_member(self) -> None:
        named = Member(b"6VnYj9uuuuuuuu", "door", {}, None, "member", "up", 0.0, 1)
        self.assertEqual(repr(named), "<member 'door' 6VnYj9uu, up>")
        self.assertEqual(repr(msgspec.structs.replace(named, label=None)), "<member 6VnYj9uu, up>")

    def test_an_identity(self) -> None:
        identity = Identity.generate()
        self.assertEqual(repr(identity), f"<identity {identity.id.decode()}, in no file>")


class TestShown(SynchronousTestCase):
    def test_packets_are_cut_at_80_characters(self) -> None:
        self.assertEqual(shown([2, "short"]), "[2, 'short']")
        self.assertEqual(shown(["x" * 76]), f"['{'x' * 76}']")
        self.assertEqual(shown(["x" * 77]), f"['{'x' * 77}…")

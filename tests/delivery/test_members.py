"""Members: what a node shows of the others, and when it emits ``member``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError

from tests.support.meshcase import PORT, MeshCase, Puppet
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.identity import Identity
from twisted_mesh.message import Member
from twisted_mesh.service import MeshService
from twisted_mesh.wire import codec
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Presence, PresenceFlags, Role, Roster, RosterEntry, Suspect
from twisted_mesh.wire.signed import SignedRecord

LONGEST = {f"{number:08}": "v" * 20 for number in range(16)}


def presence(author: LocalNode, counter: int = 1, **changed: object) -> SignedRecord:
    """A PRESENCE record that *author* has signed."""
    values = {"sequence": 0, "address": None, "role": Role.MEMBER, "label": None, "tags": {}}
    values |= {
        "retention": 600,
        "interval": 30_000,
        "flags": PresenceFlags(0),
        "credential": b"",
        "floor": 0,
        "sealing_key": bytes(32),
    }
    record = Presence(author.origin, author.epoch, counter, **(values | changed))  # type: ignore[arg-type]
    array = codec.pack(record)
    text = codec.signed_text(codec.network_digest(author.network.id), array, Kind.PRESENCE)
    return SignedRecord(record, author.sign(text), array)


def payload(signed: SignedRecord) -> bytes:
    """A record as a ROSTER contains it."""
    return codec.payload(signed)


class MembersCase(MeshCase):
    def told(self, service: MeshService, of: MeshService | None = None) -> list[str]:
        """The states that *service* has emitted, of all members or of *of*."""
        told = self.happened(service, "member")
        return [member.state for member in told if of is None or member.id == of.id]

    def state(self, service: MeshService, of: MeshService) -> str | None:
        """The state of the member *of* that *service* shows."""
        member = service.members.get(of.id)
        return None if member is None else member.state


class TestMembers(MembersCase):
    def test_everybody_knows_everybody_else_and_what_they_say(self) -> None:
        said = [
            {"label": "the first"},
            {"label": "l" * 64, "tags": LONGEST},
            {"out_addr": ("10.7.7.7", 9)},
            {},
        ]
        nodes = [self.node(**options) for options in said]
        self.link(*pairwise(nodes), after=1)
        for node in nodes:
            self.assertEqual(set(node.members), {other.id for other in nodes if other is not node})
        first, second, third, fourth = nodes
        self.assertEqual(
            (fourth.members[first.id].label, fourth.members[second.id].label), ("the first", "l" * 64)
        )
        self.assertEqual(fourth.members[second.id].tags, LONGEST)
        self.assertEqual(first.members[third.id].address, ("10.7.7.7", 9))
        member = first.members[fourth.id]
        _, epoch = self.status_of(fourth).stream
        expected = Member(fourth.id, None, {}, (self.host(fourth), PORT), "member", "up", 0.0, epoch)
        self.assertEqual(member, expected)
        self.assertEqual(self.told(first), ["up"] * 3)

    def test_the_mapping_is_live_and_read_only_and_shows_values(self) -> None:
        a, b = self.node(), self.node()
        members = a.members
        self.link((a, b))
        self.assertEqual(list(a.members), [b.id])
        self.assertEqual(members, a.members)
        with self.assertRaises(TypeError):
            members[b"x"] = None  # type: ignore[index]
        before = a.members[b.id]
        with self.assertRaises(TypeError):
            before.tags["mine"] = "alone"  # type: ignore[index]
        kept = self.parts_of(a).driver.node.roster.get(self.status_of(b).stream[0])
        self.assertEqual(kept.presence.tags, {})
        self.assertEqual(a.footprint()["members"], 1)

    def test_without_a_run_there_is_none(self) -> None:
        a, b = self.chain(2)
        self.stop(a)
        self.assertEqual(dict(a.members), {})
        a.startService()
        self.assertEqual(dict(a.members), {})
        self.link((b, a))
        self.assertEqual(list(a.members), [b.id])

    def test_who_stops_has_left(self) -> None:
        a, b, c = self.chain(3, after=10)
        self.stop(c)
        self.assertEqual((self.state(a, c), self.state(b, c)), ("left", "left"))
        self.assertEqual(self.told(a, c), ["up", "left"])
        self.assertAlmostEqual(a.members[c.id].since, 10.0, places=1)

    def test_who_is_silent_is_down_and_up_again_with_its_next_word(self) -> None:
        a, b = self.linked(self.keyed(), self.keyed())
        self.network.advance(10)
        self.network.part([self.host(a)], [self.host(b)])
        self.network.advance(200)
        self.assertEqual(self.state(a, b), "down")
        self.network.heal()
        self.network.advance(100)
        self.assertEqual((self.state(a, b), self.state(b, a)), ("up", "up"))
        states = self.told(a, b)
        self.assertEqual((states[0], states[-2:]), ("up", ["down", "up"]))

    def test_who_is_lost_is_suspected_everywhere_and_down_if_it_says_nothing(self) -> None:
        a, b = self.chain(2)
        puppet = self.joined(b)
        self.send_frames(puppet, presence(puppet.me), after=1)
        puppet.transport.abortConnection()
        for seconds, state in ((0.1, "suspect"), (14.0, "suspect"), (4.0, "down")):
            self.network.advance(seconds)
            self.assertEqual({node.members[puppet.me.id].state for node in (a, b)}, {state})

    def test_who_was_lost_and_lives_says_so(self) -> None:
        a, b, c = self.chain(3)
        self.link((c, a))
        self.network.cut(self.host(b), self.host(c))
        self.network.pump()
        self.assertEqual(self.told(a, c), ["up", "suspect", "up"])
        self.assertEqual((self.state(a, c), self.state(b, c)), ("up", "up"))

    def test_who_comes_back_after_its_only_link_was_lost_says_so_as_well(self) -> None:
        a, b, c = self.chain(3)
        self.network.cut(self.host(b), self.host(c))
        self.network.advance(3)
        self.assertEqual((self.state(a, c), self.state(b, c)), ("up", "up"))
        self.assertEqual(self.told(a, c), ["up", "suspect", "up"])
        self.network.advance(20)
        self.assertEqual(self.told(a, c), ["up", "suspect", "up"])

    def test_who_had_a_key_for_one_process_is_forgotten_after_a_minute_and_others_are_not(self) -> None:
        a, short, long = self.keyed(limits={"member_memory": 600.0}), self.node(identity=None), self.keyed()
        self.link((a, short), (a, long))
        self.stop(short)
        self.stop(long, after=70)
        self.assertEqual((self.state(a, short), self.state(a, long)), (None, "left"))
        gone = self.happened(a, "member")[-1]
        self.assertEqual((gone.id, gone.state), (short.id, "gone"))
        self.assertTrue(60 <= gone.since <= 70, gone)
        self.network.advance(600)
        self.assertEqual(dict(a.members), {})

    def test_a_new_run_is_the_same_member_with_another_epoch(self) -> None:
        a, b = self.linked(self.keyed(), self.keyed())
        before = a.members[b.id]
        self.stop(b)
        b.startService()
        self.link((b, a))
        after = a.members[b.id]
        self.assertGreater(after.epoch, before.epoch)
        self.assertEqual(self.told(a, b), ["up", "left", "up"])

    def test_it_says_how_long_it_holds_messages_and_that_its_key_is_for_one_process(self) -> None:
        key = Identity.create(self.mktemp())
        kept = self.node(identity=key, history=self.mktemp(), limits={"store_seconds": 1234.5})
        short = self.node(identity=None, limits={"history_seconds": 77.0})
        a = self.node()
        self.link((a, kept), (a, short))
        roster = self.parts_of(a).driver.node.roster
        said = [roster.get(self.status_of(node).stream[0]).presence for node in (kept, short)]
        self.assertEqual(
            [(one.retention, one.flags) for one in said],
            [(1234, 0), (77, PresenceFlags.EPHEMERAL)],
        )

    def test_listeners_get_the_member_and_what_they_do_harms_nobody(self) -> None:
        a, b = self.node(), self.node()
        seen: list[Member] = []
        a.once("member", lambda member: 1 / 0)
        a.on("member", seen.append)
        self.link((a, b))
        self.assertEqual(seen, [a.members[b.id]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_changes_are_logged_from_level_one_on(self) -> None:
        _a, b = self.linked(self.node(debug_level=1), self.node(label="x\x1b[2J\u202e"))
        self.stop(b)
        lines = self.log("member ")
        self.assertEqual([line.rpartition(") ")[2] for line in lines], ["is up", "has left"])
        self.assertTrue("".join(lines).isprintable())


class TestGuests(MembersCase):
    def test_they_are_nowhere_shown_and_say_what_they_like(self) -> None:
        a, guest, b = self.linked(self.node(), self.node(role="guest"), self.node())
        a.send("to the guest")
        self.send(guest, "from the guest", after=40)
        self.assertEqual(sorted(self.got(b)), ["from the guest", "to the guest"])
        self.assertEqual((set(a.members), set(b.members)), ({b.id}, {a.id}))
        self.assertEqual(set(guest.members), {a.id, b.id})
        self.assertEqual(self.told(a, guest), [])

    def test_a_member_that_comes_back_as_one_is_shown_no_more(self) -> None:
        a = self.node()
        key = Identity.create(self.mktemp())
        b = self.node(identity=key)
        self.link((a, b))
        self.stop(b)
        again = self.node(identity=key, role="guest")
        self.link((again, a))
        self.send(again, "as a guest", after=1)
        self.assertEqual(self.got(a), ["as a guest"])
        self.assertEqual(self.told(a, b), ["up", "left", "gone"])
        self.assertEqual(dict(a.members), {})


class TestJoined(MembersCase):
    def test_it_fires_once_a_neighbour_has_told_who_is_there(self) -> None:
        a, b, c = self.node(), self.node(), self.node()
        self.link((a, b))
        members: list[set[bytes]] = []
        joined = c.joined()
        joined.addCallback(lambda _: members.append(set(c.members)))
        self.network.advance(100)
        self.assertEqual(members, [])
        self.link((c, b))
        self.assertEqual(members, [{a.id, b.id}])
        self.assertIsNone(self.successResultOf(c.joined()))

    def test_by_all_who_wait_and_by_none_who_waits_no_more(self) -> None:
        a, b = self.node(), self.node()
        one, two, three = a.joined(), a.joined(), a.joined()
        two.cancel()
        self.failureResultOf(two, CancelledError)
        self.link((a, b))
        self.successResultOf(one)
        self.successResultOf(three)

    def test_it_fails_when_the_service_stops(self) -> None:
        a = self.node()
        joined = a.joined()
        self.stop(a)
        self.failureResultOf(joined, NotRunning)
        self.assertRaises(NotRunning, a.joined)
        a.startService()
        again = a.joined()
        self.link((self.node(), a))
        self.successResultOf(again)

    def test_a_link_alone_is_not_enough(self) -> None:
        a = self.node()
        joined = a.joined()
        puppet = self.met(a)
        self.assertEqual(len(a.routing_table), 1)
        self.assertNoResult(joined)
        self.send_frames(puppet, Roster(False, [], 0))
        self.assertNoResult(joined)
        puppet.send(Roster(True, [], 0))
        self.result_of(joined)


class TestLyingPeers(MembersCase):
    """If a peer sends something false, its link is closed, and nothing else changes."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2, after=1)
        self.before = self.lasting(self.a.footprint())
        self.author = self.puppet().me

    def assert_refused(self, puppet: Puppet, reason: str) -> None:
        """Assert that the peer was told *reason*, and that nothing is left of its link."""
        self.network.advance(3)
        bye = puppet.bye
        self.assertIsNotNone(bye)
        self.assertEqual(bye.reason, reason)  # type: ignore[union-attr]
        self.assertIsNotNone(puppet.lost)
        after = self.lasting(self.a.footprint())
        self.assertEqual({name: after[name] for name in after if after[name] != self.before[name]}, {})
        self.assertEqual(list(self.a.members), [self.b.id])

    def refused_each(self, reason: str, *said: Any) -> None:
        """Assert that a peer is told *reason* if it sends one of *said*: a frame, or a list of frames."""
        for frames in said:
            puppet = self.joined(self.a, roster=False)
            puppet.send(*(frames if isinstance(frames, list) else [frames]))
            self.assert_refused(puppet, reason)

    def test_a_roster_that_comes_twice(self) -> None:
        self.refused_each("order", [Roster(True, [], 0)] * 2)

    def test_a_roster_before_the_frontier(self) -> None:
        puppet = self.met(self.a, frontier=False)
        puppet.send(Roster(True, [], 0))
        self.assert_refused(puppet, "order")

    def test_a_roster_of_junk(self) -> None:
        forged = payload(msgspec.structs.replace(presence(self.author), signature=bytes(64)))
        self.refused_each("signature", Roster(True, [RosterEntry(0, forged)], 0))
        for entry in (b"junk", b"", codec.encode(Ping(1))[4:]):
            self.refused_each("shape", Roster(True, [RosterEntry(0, entry)], 0))

    def test_records_that_their_author_has_not_signed_for_this_network(self) -> None:
        signed = presence(self.author)
        later = presence(msgspec.structs.replace(self.author, epoch=9))
        elsewhere = self.author.network._replace(subnet="another")
        self.refused_each(
            "signature",
            msgspec.structs.replace(signed, signature=bytes(64)),
            msgspec.structs.replace(signed, array=later.array),
            presence(msgspec.structs.replace(self.author, network=elsewhere)),
        )

    def test_an_accusation_in_the_name_of_another(self) -> None:
        accused, accuser = (self.status_of(node).stream[0] for node in (self.a, self.b))
        rank = self.parts_of(self.b).driver.node.roster.get(accused).rank
        accusation = Suspect(accuser, accused, *rank)
        self.refused_each("signature", SignedRecord(accusation, bytes(64), codec.pack(accusation)))
        self.assertEqual(self.state(self.b, self.a), "up")

    def test_a_presence_with_more_than_may_be_in_it(self) -> None:
        changes = ({"label": "l" * 65}, {"tags": {str(n): "" for n in range(17)}}, {"interval": 0})
        self.refused_each("shape", *(presence(self.author, **changed) for changed in changes))

    def test_an_old_presence_changes_nothing(self) -> None:
        puppet = self.joined(self.a)
        self.send_frames(puppet, presence(puppet.me, 2, label="new"), presence(puppet.me, 1, label="old"))
        self.assertEqual(self.a.members[puppet.me.id].label, "new")
        self.assertIsNone(puppet.lost)


class TestConstruction(MeshCase):
    def test_what_cannot_work_is_said_at_once(self) -> None:
        for options in (
            {"overlay": 1},
            {"role": "chief"},
            {"label": 7},
            {"label": "l" * 65},
            {"tags": {"k": None}},
            {"tags": None},
            {"out_addr": ("h" * 254, 1)},
        ):
            self.assertRaises(LocalError, self.make, **options)
        self.assertEqual(self.services, [])

    def test_tags_are_copied(self) -> None:
        tags = {"a": "b"}
        one, other = self.node(tags=tags), self.node()
        tags["a"] = "changed"
        self.link((one, other))
        self.assertEqual(other.members[one.id].tags, {"a": "b"})

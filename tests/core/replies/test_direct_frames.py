"""DIRECTs with several messages, and acknowledgements of many messages at once."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.network import acknowledged, closing, direct, opened, origin_of, presence
from tests.core.replies_case import EncryptedTestCase, RepliesTestCase
from tests.properties.profile import fixed
from tests.support.length import at_length
from twisted_mesh.core.events import (
    DirectRoom,
    Effect,
    Received,
    SendDirect,
    SendDirects,
    Timer,
    TimerFired,
)
from twisted_mesh.core.replies.senders import WINDOW
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.replies import MAX_DIRECTS

FAR = 2**62 - MAX_DIRECTS

frames = st.tuples(st.integers(1, 20), st.integers(1, 6))  # the first message of a DIRECT, and how many


class TestSending(RepliesTestCase):
    """The messages of one turn of the reactor share frames."""

    ends_turns = False

    def setUp(self) -> None:
        self.said: list[SendDirect] = []
        super().setUp()

    def say(self, token: int, name: str, text: object) -> None:
        """Send a message, in the middle of a turn."""
        self.said.append(SendDirect(token, origin_of(name), join_entries([pack_entry(2, [text])])))

    def end_turn(self) -> list[Effect]:
        """Let the turn of the reactor end."""
        said, self.said = self.said, []
        return self.handle(SendDirects(said))

    def sent(self, effects: list[Effect], number: int = 1) -> list[tuple[int, int]]:
        """The DIRECTs that are sent over a link: the first message, and how many there are."""
        return [(one.first, one.count) for one in self.direct_frames(effects, number)]

    def test_messages_of_one_turn_for_one_node_leave_in_one_frame_at_its_end(self) -> None:
        for token, name in enumerate(("dora", "bert", "dora", "dora"), 1):
            self.say(token, name, token)
        effects = self.end_turn()
        self.assertEqual((self.sent(effects, 1), self.sent(effects, 2)), ([(1, 3)], [(4, 1)]))
        [frame] = self.direct_frames(effects, 1)
        self.assertEqual(opened(frame, "dora"), [1, 3, 4])
        self.say(5, "dora", 5)
        self.assertEqual(self.directs(self.end_turn(), 1), [("dora", 4, 1)])  # it waits for no other

    def test_a_frame_has_so_many_bytes_unless_one_message_has_more(self) -> None:
        for token, size in enumerate((30_000, 30_000, 10_000, 200_000, 1, 1), 1):
            self.say(token, "dora", "x" * size)
        self.assertEqual(self.sent(self.end_turn()), [(1, 2), (3, 1), (4, 1), (5, 2)])

    def test_and_so_many_messages(self) -> None:
        for token in range(1, MAX_DIRECTS + 3):
            self.say(token, "dora", token)
        self.assertEqual(self.sent(self.end_turn()), [(1, MAX_DIRECTS), (MAX_DIRECTS + 1, 2)])

    def test_those_that_are_sent_again_share_frames_with_those_sent_as_often(self) -> None:
        for token in (1, 2, 3):
            self.say(token, "dora", token)
        self.end_turn()
        self.wait(0.5)
        self.say(4, "dora", 4)
        self.end_turn()
        self.receive(1, acknowledged("dora", "me", 1))
        self.assertEqual(self.sent(self.wait(0.5)), [(2, 2)])
        self.assertEqual(self.sent(self.wait(0.5)), [(4, 1)])
        self.up(4, "dora")
        self.assertEqual(self.sent(self.handle(TimerFired(Timer.TURN)), 4), [(2, 3)])

    def test_what_has_left_for_a_new_run_in_this_turn_leaves_once(self) -> None:
        self.say(1, "dora", 1)
        self.end_turn()
        self.up(4, "dora")  # it leaves again at the end of the turn
        self.receive(1, presence("dora", epoch=2, interval=3_000_000))
        self.now += 1
        self.assertEqual(self.sent(self.handle(TimerFired(Timer.REPLIES)), 4), [(2, 1)])
        self.assertEqual(self.over(self.handle(TimerFired(Timer.TURN))), [])

    def test_a_node_that_is_forgotten_in_the_turn_is_sent_nothing(self) -> None:
        self.begin(direct_senders=1)
        self.say(1, "anna", 1)
        self.end_turn()
        self.handle(closing(1))
        self.up(4, "anna")
        self.receive(4, acknowledged("anna", "me", 1))
        self.say(2, "bert", 2)
        effects = self.end_turn()
        self.assertEqual((self.sent(effects, 4), self.sent(effects, 2)), ([], [(2, 1)]))


class TestAcknowledging(RepliesTestCase):
    """One acknowledgement is for all messages before it, and an answer carries it."""

    ends_turns = False

    def come(self, number: int, *frames: codec.Frame) -> None:
        """Let *frames* come in the middle of a turn, and have nothing sent then."""
        effects = self.receive(number, *frames)
        self.assertEqual([self.acks(effects, link) for link in (1, 2, 3)], [[]] * 3)

    def end_turn(self) -> list[Effect]:
        """Let the turn of the reactor end."""
        return self.handle(TimerFired(Timer.TURN))

    def test_those_of_a_turn_are_acknowledged_by_one_frame(self) -> None:
        self.come(1, direct("dora", "me", 1), direct("dora", "me", 2, count=3))
        self.come(1, direct("dora", "me", 5))
        effects = self.end_turn()
        self.assertEqual((self.acks(effects, 1), self.acks(effects, 2)), ([("dora", 5)], []))
        self.assertEqual(self.acks(self.end_turn(), 1), [])

    def test_a_repeat_of_earlier_ones_takes_no_place_of_that_for_later_ones(self) -> None:
        self.come(1, direct("dora", "me", 1, count=2), direct("dora", "me", 3), direct("dora", "me", 1))
        self.assertEqual(self.acks(self.end_turn(), 1), [("dora", 3)])

    def test_each_link_that_brought_one_gets_one(self) -> None:
        self.come(1, direct("dora", "me", 1))
        self.come(3, direct("dora", "me", 1, tries=2))
        self.come(2, direct("bert", "me", 1))
        effects = self.end_turn()
        acks = [self.acks(effects, number) for number in (1, 2, 3)]
        self.assertEqual(acks, [[("dora", 1)], [("bert", 1)], [("dora", 1)]])

    def test_an_answer_in_the_same_turn_carries_it(self) -> None:
        self.come(1, direct("dora", "me", 1, count=2))
        effects = self.send(1)
        [frame] = self.direct_frames(effects, 1)
        self.assertEqual((frame.acknowledged, self.acks(effects, 1)), (2, []))

    def test_the_link_of_the_message_gets_it_though_the_answer_goes_another_way(self) -> None:
        self.come(3, direct("dora", "me", 1))
        effects = self.send(1)
        [frame] = self.direct_frames(effects, 1)
        self.assertEqual((frame.acknowledged, self.acks(effects, 1)), (1, []))
        self.assertEqual(self.acks(effects, 3), [("dora", 1)])

    def test_a_message_to_an_earlier_run_carries_none(self) -> None:
        self.come(1, direct("dora", "me", 1, epoch=2))  # no record of that run has come
        effects = self.send(1)
        [frame] = self.direct_frames(effects, 1)
        self.assertEqual((frame.acknowledged, self.acks(effects, 1)), (0, [("dora", 1)]))

    def test_it_ends_all_messages_up_to_it(self) -> None:
        for token in (1, 2, 3, 4):
            self.send(token)
        self.assertEqual(self.ended(self.receive(1, acknowledged("dora", "me", 2))), [(1, True), (2, True)])
        effects = self.receive(1, direct("dora", "me", 1, acknowledges=3))
        self.assertEqual((self.ended(effects), self.got(effects)), ([(3, True)], [1]))

    def test_it_counts_though_its_frame_must_wait_or_comes_again(self) -> None:
        for token in (1, 2, 3):
            self.send(token)
        self.handle(DirectRoom(False))
        waits = direct("dora", "me", 1, acknowledges=1)
        self.assertEqual(self.ended(self.receive(1, waits)), [(1, True)])
        self.assertEqual(self.got(self.handle(DirectRoom(True))), [1])
        again = direct("dora", "me", 1, acknowledges=2, tries=1)
        self.assertEqual(self.ended(self.receive(1, again)), [(2, True)])

    def test_none_is_believed_for_what_was_never_sent_or_of_another_run(self) -> None:
        self.send(1)
        lies = (
            acknowledged("dora", "me", 2),
            acknowledged("dora", "me", FAR),
            direct("dora", "me", 9, acknowledges=2),
            direct("dora", "me", 9, acknowledges=FAR),
            direct("dora", "me", 9, acknowledges=1, destination_epoch=2),
            direct("dora", "me", 9, acknowledges=1, epoch=2),
            direct("anna", "me", 9, acknowledges=1),
            direct("dora", "bert", 9, acknowledges=1),
        )
        for lie in lies:
            self.assertEqual(self.ended(self.receive(1, lie)), [], lie)

    def test_acknowledgements_that_wait_are_in_the_footprint(self) -> None:
        self.come(1, direct("dora", "me", 1))
        self.assertEqual(self.node.footprint()["direct_acknowledgements"], 1)
        self.end_turn()
        self.assertEqual(self.node.footprint()["direct_acknowledgements"], 0)


class TestTaking(RepliesTestCase):
    """Frames may overlap, leave holes, and come in any order."""

    def test_of_frames_that_overlap_each_message_comes_once(self) -> None:
        got = []
        for first, count in ((1, 3), (2, 4), (1, 5), (9, 2), (7, 4), (6, 1), (4, 9)):
            got += self.got(self.receive(1, direct("dora", "me", first, count=count)))
        self.assertEqual(got, list(range(1, 13)))
        self.assertEqual(self.node.footprint()["direct_held"], 0)

    def test_one_that_came_before_is_acknowledged_with_its_own_last_number(self) -> None:
        self.receive(1, direct("dora", "me", 1, count=5))
        effects = self.receive(1, direct("dora", "me", 2, count=2))  # relays know that frame by its last
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([], [("dora", 3)]))

    def test_a_frame_beyond_the_window_is_dropped_as_a_whole(self) -> None:
        inside = direct("dora", "me", WINDOW - 3, count=4)
        self.receive(1, inside)
        self.assertEqual(self.node.footprint()["direct_held"], 1)
        self.assertEqual(
            self.strays(direct("dora", "me", WINDOW - 3, count=5), link=1), ["dropped_directs"]
        )

    def test_a_frame_counts_as_so_many_messages_at_a_relay_and_at_the_reader(self) -> None:
        for target in ("me", "dora"):
            self.begin(reverse_burst=10, reverse_rate=5.0)
            for first in (1, 5, 9):  # the last leaves less than nothing
                self.receive(2, direct("bert", target, first, count=4))
            self.assertEqual(self.count("dropped_directs"), 0)
            self.receive(2, direct("bert", target, 13))
            self.assertEqual(self.count("dropped_directs"), 1)
            self.wait(0.5)  # of five a second: two are missing still
            self.receive(2, direct("bert", target, 13))
            self.assertEqual(self.count("dropped_directs"), 2)

    @settings(fixed, max_examples=at_length(200, 20))
    @given(st.lists(frames, max_size=12))
    @example([(2, 2), (2, 1), (1, 1)])
    def test_frames_of_many_and_of_one_lead_to_the_same_deliveries(
        self, told: list[tuple[int, int]]
    ) -> None:
        outcomes = []
        for alone in (False, True):
            self.make()
            self.up(1, "anna")
            self.receive(1, presence("dora", interval=3_000_000))
            got = []
            for first, count in told:
                whole = [direct("dora", "me", first, count=count)]
                each = [direct("dora", "me", at) for at in range(first, first + count)]
                got.append(self.got(self.handle(Received(1, each if alone else whole))))
            outcomes.append(got)
        self.assertEqual(*outcomes)
        flat = [packet for some in outcomes[0] for packet in some]
        self.assertEqual(flat, list(range(1, len(flat) + 1)))


class TestEncrypted(EncryptedTestCase):
    """What an encrypted link brings of its peer counts only if it leads to nothing, message by message."""

    def test_frames_of_many_are_limited_only_if_they_lead_to_nothing(self) -> None:
        self.begin(reverse_burst=10, reverse_rate=5.0)
        for first in range(1, 100, 8):
            self.assertEqual(len(self.got(self.receive(2, direct("bert", "me", first, count=8)))), 8)
        self.assertEqual(self.count("dropped_directs"), 0)
        for _ in range(5):
            self.receive(2, direct("bert", "me", 1, count=8))
        self.assertEqual(self.count("dropped_directs"), 3)

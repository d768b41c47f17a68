"""The roster as a table: which members it keeps, in which state, and which make room."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of, presence
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.membership.roster import HEARSAY, SPOKE_AGAIN, Author, Roster, State
from twisted_mesh.errors import RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import MAX_INTERVAL, Contact, Presence, PresenceFlags, Role
from twisted_mesh.wire.signed import SignedRecord

LEAVING, EPHEMERAL = PresenceFlags.LEAVING, PresenceFlags.EPHEMERAL


class RosterTestCase(SynchronousTestCase):
    """A roster, and a clock."""

    def setUp(self) -> None:
        self.make()

    def make(self, **limits: float) -> None:
        """Begin anew with *limits*."""
        self.now = 1000.0
        self.roster = Roster(MeshConfig(**limits))  # type: ignore[arg-type]

    def take(self, signed: SignedRecord, age: float = 0, contact: Contact | None = None) -> bool | None:
        """Take a record that came *age* seconds ago."""
        assert isinstance(signed.record, Presence)
        return self.roster.keep(signed, signed.record, contact, self.now - age, self.now)

    def stay(self, name: str, flags: int = 0) -> None:
        """A member speaks twice, the second time with *flags*."""
        self.take(presence(name, 1))
        self.wait(SPOKE_AGAIN)
        self.take(presence(name, 2, flags=flags))

    def entry(self, name: str) -> Author:
        """What is known of *name*."""
        entry = self.roster.get(origin_of(name))
        assert entry is not None
        return entry

    def state(self, name: str) -> State | None:
        """The state of *name*; None if it is not on the roster."""
        entry = self.roster.get(origin_of(name))
        return None if entry is None else entry.state

    def wait(self, seconds: float) -> tuple[list[bytes], list[bytes]]:
        """Let time pass; the members whose state has changed, and those that were forgotten."""
        self.now += seconds
        changed, gone = self.roster.tick(self.now)
        return [entry.presence.origin for entry in changed], [entry.presence.origin for entry in gone]


class TestRecords(RosterTestCase):
    """The newest record of each author counts."""

    def test_nobody_is_known_at_first(self) -> None:
        self.assertIsNone(self.roster.get(origin_of("anna")))
        self.assertEqual(self.roster.rank(origin_of("anna")), (0, 0))
        self.assertFalse(self.roster.is_there(origin_of("anna")))
        self.assertEqual((len(self.roster), self.roster.there, list(self.roster)), (0, 0, []))

    def test_who_is_new_is_there(self) -> None:
        self.assertIs(self.take(presence("anna", 3, epoch=7)), True)
        self.assertIs(self.state("anna"), State.UP)
        self.assertEqual(self.roster.rank(origin_of("anna")), (7, 3))
        self.assertTrue(self.roster.is_there(origin_of("anna")))
        self.assertEqual((len(self.roster), self.roster.there), (1, 1))
        self.assertEqual(self.roster.footprint(), {"roster": 1, "forgotten_members": 0})

    def test_that_it_is_still_there_is_no_news(self) -> None:
        self.take(presence("anna", 1))
        self.assertIs(self.take(presence("anna", 2, sequence=9, retention=5, interval=1)), False)
        self.assertEqual(self.entry("anna").rank, (1, 2))

    def test_whatever_it_says_anew_of_itself_is(self) -> None:
        news: tuple[dict[str, object], ...] = (
            {"epoch": 2},
            {"address": ("192.0.2.9", 1)},
            {"role": Role.GUEST},
            {"label": "kitchen"},
            {"tags": {"floor": "1"}},
            {"flags": LEAVING},
        )
        for change in news:
            self.make()
            self.take(presence("anna", 1))
            self.assertIs(self.take(presence("anna", 2, **change)), True, change)  # type: ignore[arg-type]

    def test_since_tells_when_it_came_into_its_state(self) -> None:
        self.take(presence("anna", 1))
        self.wait(10)
        self.take(presence("anna", 2))
        self.assertEqual(self.entry("anna").since, 1000)
        self.take(presence("anna", 3, flags=LEAVING))
        self.assertEqual(self.entry("anna").since, 1010)

    def test_where_it_can_be_dialled_is_its_newest_word(self) -> None:
        contacts = [Contact(b"1" * 64, "192.0.2.9", port) for port in (1, 2)]
        for counter, contact in enumerate([*contacts, None], 1):
            self.take(presence("anna", counter), contact=contact)
            self.assertEqual(self.entry("anna").contact, contact)


class TestSilence(RosterTestCase):
    """A member that is not heard of is down in time, and comes back with a record."""

    def test_three_silent_intervals_of_its_own(self) -> None:
        for counter in (1, 2):
            self.wait(5)
            self.take(presence("anna", counter, interval=30_000))
            self.take(presence("bert", counter, interval=5_000))
        self.assertEqual(self.wait(14.9), ([], []))
        self.assertEqual(self.wait(0.1), ([origin_of("bert")], []))
        self.assertIs(self.state("bert"), State.DOWN)
        self.assertEqual(self.roster.there, 1)
        self.assertEqual(self.wait(74.9), ([], []))
        self.assertEqual(self.wait(0.1), ([origin_of("anna")], []))

    def test_a_word_begins_them_anew(self) -> None:
        self.take(presence("anna", 1))
        for counter in range(2, 9):
            self.assertEqual(self.wait(80), ([], []))
            self.take(presence("anna", counter))

    def test_who_is_back_is_up(self) -> None:
        self.take(presence("anna", 1))
        self.wait(90)
        self.assertIs(self.take(presence("anna", 2)), True)
        self.assertIs(self.state("anna"), State.UP)

    def test_one_told_as_old_is_down_at_once(self) -> None:
        self.assertIs(self.take(presence("anna"), age=90), True)
        self.assertIs(self.state("anna"), State.DOWN)
        self.take(presence("bert"), age=89)
        self.assertIs(self.state("bert"), State.UP)
        self.assertEqual(self.wait(1), ([origin_of("bert")], []))

    def test_one_that_said_so_has_left_however_old_that_is(self) -> None:
        for name, age in (("anna", 0), ("bert", 100)):
            self.take(presence(name, flags=LEAVING), age=age)
            self.assertIs(self.state(name), State.LEFT)
            self.assertEqual(self.wait(100)[0], [])

    def test_one_that_left_and_is_started_again_is_up(self) -> None:
        self.take(presence("anna", flags=LEAVING))
        self.take(presence("anna", epoch=2))
        self.assertIs(self.state("anna"), State.UP)

    def test_a_node_that_was_held_up_itself_doubts_itself(self) -> None:
        for name, flags in (("anna", 0), ("bert", 0), ("cleo", LEAVING)):
            self.stay(name, flags)
        self.take(presence("anna", 3))
        self.take(presence("bert", 3))
        self.roster.suspect(self.entry("bert"), self.now)
        self.now += 100
        self.roster.doubt(99)
        self.assertEqual(self.wait(0), ([], []))
        self.assertEqual(self.wait(14), ([origin_of("bert")], []))
        self.assertEqual(self.wait(75), ([origin_of("anna")], []))

    def test_the_overdue_are_told_now_and_then(self) -> None:
        self.take(presence("anna"))
        told = []
        for second in range(100):
            self.wait(1)
            if self.roster.silent(self.now):
                told.append(second + 1)
        self.assertEqual(told, [38, 53, 68, 83])

    def test_those_that_are_gone_are_not_among_them(self) -> None:
        self.take(presence("anna", flags=LEAVING))
        self.take(presence("bert"), age=90)
        self.now += 50
        self.assertEqual(self.roster.silent(self.now), [])


class TestSuspicion(RosterTestCase):
    """A member that is suspected is down after a time, unless it refutes that."""

    def setUp(self) -> None:
        super().setUp()
        self.take(presence("anna"))
        self.roster.suspect(self.entry("anna"), self.now)

    def test_it_is_there_for_fifteen_seconds(self) -> None:
        self.assertIs(self.state("anna"), State.SUSPECT)
        self.assertTrue(self.roster.is_there(origin_of("anna")))
        self.assertEqual(self.wait(14.9), ([], []))
        self.assertEqual(self.wait(0.1), ([origin_of("anna")], []))
        self.assertIs(self.state("anna"), State.DOWN)

    def test_until_the_first_of_them_is_given_up_or_speaks(self) -> None:
        until = self.now + 15
        self.take(presence("bert"))
        self.wait(5)
        self.roster.suspect(self.entry("bert"), self.now)
        self.assertEqual(self.roster.suspected_until, until)
        self.take(presence("anna", 2))
        self.assertEqual(self.roster.suspected_until, until + 5)
        self.assertEqual(self.wait(15), ([origin_of("bert")], []))
        self.assertIsNone(self.roster.suspected_until)


class TestForgetting(RosterTestCase):
    """A member that is gone is remembered for a day, or, if it cannot come back, for a minute."""

    def test_a_member_after_a_day(self) -> None:
        self.stay("anna", LEAVING)
        self.assertEqual(self.wait(86_399), ([], []))
        self.assertEqual(self.wait(1), ([], [origin_of("anna")]))
        self.assertIsNone(self.state("anna"))

    def test_one_whose_key_was_made_for_its_run_after_a_minute(self) -> None:
        self.take(presence("anna", flags=LEAVING | EPHEMERAL))
        self.assertEqual(self.wait(59), ([], []))
        self.assertEqual(self.wait(1), ([], [origin_of("anna")]))

    def test_a_member_that_spoke_once_after_a_minute(self) -> None:
        # Whoever makes it up need not do anything more for it.
        self.take(presence("anna"))
        self.assertEqual(self.wait(90), ([origin_of("anna")], []))
        self.assertEqual(self.wait(59), ([], []))
        self.assertEqual(self.wait(1), ([], [origin_of("anna")]))

    def test_two_words_at_once_are_no_more_than_one(self) -> None:
        self.take(presence("anna", 1))
        self.wait(SPOKE_AGAIN - 0.1)
        self.take(presence("anna", 9, flags=LEAVING))
        self.assertEqual(self.wait(60), ([], [origin_of("anna")]))

    def test_the_longest_interval_is_ten_minutes(self) -> None:
        with self.assertRaises(RemoteError):
            codec.decode(codec.payload(presence("anna", interval=600_001)))
        self.take(presence("anna", interval=MAX_INTERVAL))
        self.assertEqual(self.wait(1800), ([origin_of("anna")], []))

    def test_who_was_gone_before_it_was_told_of_once_it_is_told_of_no_more(self) -> None:
        # Others may have heard it for days, or have made it up: they must go on saying so.
        signed = presence("anna")
        assert isinstance(signed.record, Presence)
        for flags in (0, LEAVING):
            self.make()
            signed = presence("anna", flags=flags)
            assert isinstance(signed.record, Presence)
            self.take(signed, age=5000)
            self.roster.told(signed.record, self.now)
            for _ in range(20):
                self.assertEqual(self.wait(HEARSAY - 1), ([], []))
                self.roster.told(signed.record, self.now)
            self.roster.told(presence("anna", 7).record, self.now + 9)  # type: ignore[arg-type]
            self.roster.told(presence("emil").record, self.now + 9)  # type: ignore[arg-type]
            self.assertFalse(self.entry("anna").is_told)
            self.assertEqual(self.wait(HEARSAY), ([], [origin_of("anna")]))

    def test_but_no_longer_than_one_that_was_heard(self) -> None:
        signed = presence("anna")
        assert isinstance(signed.record, Presence)
        self.take(signed, age=86_400)
        self.roster.told(signed.record, self.now)
        self.assertEqual(self.wait(80), ([], []))
        self.roster.told(signed.record, self.now)
        self.assertEqual(self.wait(10), ([], [origin_of("anna")]))

    def test_a_guest_likewise(self) -> None:
        self.take(presence("anna", role=Role.GUEST))
        self.assertEqual(self.wait(90), ([origin_of("anna")], []))
        self.assertEqual(self.wait(60), ([], [origin_of("anna")]))

    def test_who_is_there_is_never_forgotten(self) -> None:
        self.take(presence("anna", 1, flags=EPHEMERAL))
        for counter in range(2, 50):
            self.assertEqual(self.wait(61), ([], []))
            self.take(presence("anna", counter, flags=EPHEMERAL))


class TestRoom(RosterTestCase):
    """The roster has room for a limited number of members."""

    def setUp(self) -> None:
        super().setUp()
        self.make(members_limit=3)

    def test_who_is_gone_longest_makes_room(self) -> None:
        self.take(presence("anna"))
        for name in ("bert", "cleo"):
            self.stay(name, LEAVING)
            self.wait(1)
        self.assertIs(self.take(presence("dora")), True)
        self.assertEqual([self.state(name) for name in ("bert", "cleo")], [None, State.LEFT])
        self.assertEqual(self.wait(1), ([], [origin_of("bert")]))
        self.assertEqual(self.wait(1), ([], []))

    def test_who_spoke_once_makes_it_first(self) -> None:
        self.stay("anna", LEAVING)
        self.take(presence("bert", flags=LEAVING))
        self.stay("cleo", LEAVING)
        self.take(presence("dora"))
        self.assertIsNone(self.state("bert"))

    def test_who_cannot_come_back_makes_it_first(self) -> None:
        for name, flags in (("anna", LEAVING), ("bert", LEAVING | EPHEMERAL), ("cleo", LEAVING)):
            self.stay(name, flags)
            self.wait(1)
        self.take(presence("dora"))
        self.assertIsNone(self.state("bert"))


class TestFullOfMadeUpMembers(RosterTestCase):
    """Anybody can make up members; who goes on to speak keeps its place, and who does not gives it up."""

    def setUp(self) -> None:
        super().setUp()
        self.make(members_limit=4)
        self.counters: dict[str, int] = {}

    def speak(self, *names: str, flags: int = 0) -> list[bool | None]:
        """Each of these members sends its next record; whether these were kept."""
        for name in names:
            self.counters[name] = self.counters.get(name, 0) + 1
        return [self.take(presence(name, self.counters[name], flags=flags)) for name in names]

    def live(self, *names: str, seconds: float) -> None:
        """Members send a record at once, and every 30 seconds."""
        self.speak(*names)
        for _ in range(round(seconds / 30)):
            self.wait(30)
            self.speak(*names)

    @property
    def names(self) -> set[str]:
        """The names of all members on the roster."""
        everybody = ("anna", "bert", "cleo", "dora", "emil", "fred", "gina")
        return {name for name in everybody if self.roster.get(origin_of(name)) is not None}

    def test_a_flood_of_members_takes_no_place_of_one_that_goes_on_to_speak(self) -> None:
        self.speak("anna", "bert", "cleo")
        for second in range(1, 400):
            self.wait(1)
            if second % 30 == 0:
                self.speak("anna", "bert", "cleo")
            self.take(presence(f"made up {second}", interval=MAX_INTERVAL))
            self.assertLessEqual({"anna", "bert", "cleo"}, self.names)
            self.assertEqual(len(self.roster), 4)

    def test_a_new_member_finds_room_in_such_a_flood_and_keeps_it(self) -> None:
        self.make(members_limit=100)
        kept = []
        for second in range(400):
            self.wait(1)
            self.take(presence(f"made up {second}", interval=MAX_INTERVAL))
            if second >= 100 and second % 30 == 10:
                kept += self.speak("anna")
        self.assertEqual(kept, [True, *[False] * 9])
        self.assertIn("anna", self.names)

    def test_who_is_new_and_silent_for_too_long_makes_room_whatever_it_says_of_its_interval(self) -> None:
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(presence(name, interval=MAX_INTERVAL))
        self.wait(30)
        self.take(presence("anna", 2, interval=MAX_INTERVAL))
        self.wait(29.9)
        self.assertEqual(self.speak("emil"), [None])
        self.wait(0.1)
        self.assertEqual(self.speak("emil"), [True])
        self.assertEqual(self.names, {"anna", "cleo", "dora", "emil"})
        self.assertEqual(self.wait(1), ([], [origin_of("bert")]))

    def test_who_spoke_once_makes_room_before_one_that_spoke_again(self) -> None:
        self.take(presence("anna", interval=MAX_INTERVAL))
        self.wait(SPOKE_AGAIN)
        self.take(presence("anna", 2, interval=MAX_INTERVAL))
        self.wait(1)
        for name in ("bert", "cleo", "dora"):
            self.take(presence(name, interval=MAX_INTERVAL))
        self.wait(60)
        self.assertEqual(self.speak("emil", "fred", "gina", "fred"), [True, True, True, False])
        self.assertEqual(self.names, {"anna", "emil", "fred", "gina"})
        self.assertEqual(self.speak("bert", "cleo"), [True, None])
        self.assertNotIn("anna", self.names)

    def test_who_is_told_to_have_been_heard_of_long_ago_makes_room_sooner(self) -> None:
        self.speak("anna", "bert", "cleo")
        self.take(presence("dora", interval=MAX_INTERVAL), age=50)
        self.wait(9)
        self.assertEqual(self.speak("emil"), [None])
        self.wait(1)
        self.assertEqual(self.speak("emil"), [True])
        self.assertEqual(self.names, {"anna", "bert", "cleo", "emil"})

    def test_who_was_up_for_ten_minutes_makes_room_for_nobody_while_it_is_there(self) -> None:
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(presence(name, interval=MAX_INTERVAL))
        self.wait(600)
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(presence(name, 2, interval=MAX_INTERVAL))
        self.wait(1700)
        self.assertIs(self.state("anna"), State.UP)
        self.assertEqual(self.speak("emil"), [None])

    def test_nor_when_it_is_gone_until_it_was_gone_for_longer_than_it_was_up(self) -> None:
        self.live("anna", "bert", "cleo", "dora", seconds=600)
        self.live("anna", "bert", seconds=90)
        self.live("anna", seconds=30)
        self.assertEqual([self.state(name) for name in ("anna", "cleo")], [State.UP, State.DOWN])
        self.wait(449)
        self.assertEqual(self.speak("emil"), [None])
        self.assertEqual(self.names, {"anna", "bert", "cleo", "dora"})
        self.wait(31)
        self.assertEqual(self.speak("emil", "fred", "gina"), [True, True, None])
        self.assertEqual(self.names, {"anna", "bert", "emil", "fred"})

    def test_a_little_less_than_ten_minutes_are_not_enough(self) -> None:
        self.live("anna", "bert", "cleo", "dora", seconds=570)
        self.speak("anna", flags=LEAVING)
        self.assertEqual(self.speak("emil"), [True])
        self.assertEqual(self.names, {"bert", "cleo", "dora", "emil"})

    def test_nor_are_ten_minutes_with_a_break(self) -> None:
        self.live("anna", "bert", "cleo", "dora", seconds=600)
        self.assertEqual(self.speak("emil"), [None])
        self.speak("anna", flags=LEAVING)
        self.speak("anna")
        self.live("bert", "cleo", "dora", seconds=60)
        self.assertEqual(self.speak("emil"), [True])
        self.assertEqual(self.names, {"bert", "cleo", "dora", "emil"})

    def test_nor_are_ten_minutes_in_which_this_node_was_held_up(self) -> None:
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(presence(name, interval=MAX_INTERVAL))
        self.now += 700
        self.roster.doubt(700)
        self.wait(59)
        self.assertEqual(self.speak("emil"), [None])
        self.wait(1)
        self.assertEqual(self.speak("emil"), [True])

    def test_a_suspicion_is_no_break(self) -> None:
        self.live("anna", "bert", "cleo", "dora", seconds=570)
        for name in ("anna", "bert", "cleo", "dora"):
            self.roster.suspect(self.entry(name), self.now)
        self.wait(10)
        self.live("anna", "bert", "cleo", "dora", seconds=30)
        self.speak("anna", flags=LEAVING)
        self.assertEqual(self.speak("emil"), [None])

    def test_of_those_that_are_gone_none_that_was_up_for_long_makes_room_first(self) -> None:
        self.live("anna", seconds=600)
        self.speak("anna", flags=LEAVING)
        self.wait(601)
        for name in ("bert", "cleo", "dora"):
            self.stay(name, LEAVING)
            self.wait(1)
        for name in ("emil", "fred", "gina"):
            self.assertEqual(self.speak(name), [True])
        self.assertEqual(self.names, {"anna", "emil", "fred", "gina"})


class TestTelling(RosterTestCase):
    """The age of each record, as a neighbour is told."""

    def test_it_is_the_time_since_it_was_heard(self) -> None:
        self.take(presence("anna"), age=20)
        self.now += 5
        self.assertEqual(self.roster.age(self.entry("anna"), self.now), 25)

    def test_it_is_never_below_zero(self) -> None:
        self.take(presence("anna"))
        self.roster.doubt(9)
        self.assertEqual(self.roster.age(self.entry("anna"), self.now), 0)

    def test_who_is_gone_here_is_told_as_gone(self) -> None:
        for gone in ({"flags": LEAVING}, {}):
            self.take(presence("anna", **gone))  # type: ignore[arg-type]
            self.roster.suspect(self.entry("anna"), self.now)
            self.wait(15)
            told = self.roster.age(self.entry("anna"), self.now)
            other = Roster(MeshConfig())
            signed = presence("anna")
            assert isinstance(signed.record, Presence)
            other.keep(signed, signed.record, None, self.now - told, self.now)
            self.assertFalse(other.is_there(origin_of("anna")))


class TestGhosts(RosterTestCase):
    """No member is kept for ever because each node tells it to the next."""

    def tell(self, name: str, other: Roster) -> None:
        """What this roster knows of *name* is told to *other*."""
        entry = self.entry(name)
        heard = self.now - self.roster.age(entry, self.now)
        if other.get(origin_of(name)) is None:
            other.keep(entry.signed, entry.presence, None, heard, self.now)
        other.told(entry.presence, self.now)

    def test_two_that_tell_each_other_forget_at_the_same_time(self) -> None:
        # Otherwise each would learn again from the other of a member that it has just forgotten.
        gone: tuple[tuple[int, float], ...] = ((0, 90), (0, 15), (LEAVING, 0))
        for flags, silent in gone:
            self.make()
            self.stay("anna", flags)
            if silent == 15:
                self.roster.suspect(self.entry("anna"), self.now)
            self.wait(silent)
            self.assertFalse(self.roster.is_there(origin_of("anna")))
            self.assertTrue(self.entry("anna").is_told)
            others = [Roster(MeshConfig()) for _ in range(3)]
            for other in others:
                self.wait(20_000)
                self.tell("anna", other)
                self.assertEqual(len(other), 1)
            self.assertEqual(self.wait(26_399), ([], []))
            for other in others:
                self.tell("anna", other)
                self.assertEqual(len(other), 1)
            for roster in (self.roster, *others):
                self.assertEqual(len(roster.tick(self.now + 1.001)[1]), 1)

    def test_who_would_be_forgotten_already_is_not_taken(self) -> None:
        for flags, most in ((EPHEMERAL, 150), (0, 86_490)):
            for name, age, forgotten in (("anna", most - 1, False), ("bert", most, True)):
                signed = presence(name, flags=flags)
                assert isinstance(signed.record, Presence)
                told = self.roster.is_forgotten(signed.record, self.now - age, self.now)
                self.assertIs(told, forgotten)

    def test_who_is_known_is_taken_however_old_it_is_told(self) -> None:
        self.take(presence("anna", 1))
        newer = presence("anna", 2)
        assert isinstance(newer.record, Presence)
        self.assertFalse(self.roster.is_forgotten(newer.record, self.now - 10**6, self.now))

    def test_a_tellers_age_takes_nobody_off_whom_this_node_has_heard_lately(self) -> None:
        # Ages are unsigned, and the same record over the tree would not be news.
        self.take(presence("anna", 1))
        self.now += 5
        self.take(presence("anna", 2), age=10**6)
        self.assertIs(self.state("anna"), State.UP)
        self.assertEqual(self.wait(84), ([], []))
        self.assertEqual(self.wait(1), ([origin_of("anna")], []))

    def test_who_made_room_and_came_back_at_once_is_not_told_as_gone(self) -> None:
        self.make(members_limit=1)
        self.take(presence("anna", 1, flags=LEAVING))
        self.take(presence("bert", flags=LEAVING))
        self.take(presence("anna", 2))
        self.assertEqual(self.wait(1), ([], [origin_of("bert")]))

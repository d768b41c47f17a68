"""The places of named consumers in the streams of a history, and their changes for the store."""

from __future__ import annotations

from math import inf

from tests.core.history.test_changes import ChangesTestCase
from tests.core.history_case import ANNA, BERT, ME
from tests.core.network import batch, origin_of
from twisted_mesh.core.events import Behind
from twisted_mesh.core.history.storage import Flush
from twisted_mesh.simulation.storage import SimStore


class PlacesTestCase(ChangesTestCase):
    """A history in which Anna has sent three messages, at 0, 5 and 10 seconds."""

    def setUp(self) -> None:
        super().setUp()
        self.send(0.0, 5.0, 10.0)

    def send(self, *times: float, first: int = 1) -> None:
        for number, now in enumerate(times, first):
            self.take(number, now=now)

    def begin(self) -> Flush | None:
        """Begin a flush of what the history knows to be taken."""
        return self.changes.flush(self.history.get, (ME, self.own_taken), self.settled, self.ms)

    def ms(self, at: float) -> int:
        return int(at * 1000)

    def name(self, *names: str) -> None:
        self.history.name_consumers(dict.fromkeys(names, 0))

    def place(self, name: str, seconds: float, now: float = 12.0) -> list[Behind]:
        """Let a new consumer begin."""
        return self.history.place(name, seconds, ME[0], now)

    def places(self) -> dict[str, int]:
        return dict(self.stream().places)


class TestBeginning(PlacesTestCase):
    """A new consumer begins where it was told to."""

    def test_with_what_comes_from_now_on(self) -> None:
        self.assertEqual(self.place("billing", 0.0), [])
        self.assertEqual(self.places(), {"billing": 3})

    def test_with_all_that_is_held(self) -> None:
        self.assertEqual(self.place("billing", inf), [Behind(ANNA, 0, 3)])

    def test_with_what_came_lately(self) -> None:
        self.assertEqual(self.place("billing", 8.0), [Behind(ANNA, 1, 3)])
        self.assertEqual(self.place("audit", 1.0), [])
        self.assertEqual(self.places(), {"billing": 1, "audit": 3})

    def test_also_with_what_the_store_holds(self) -> None:
        self.flush(now=11.0)
        self.history.age(611.0, ME, 0)
        self.assertEqual(self.marks(), (1, 3, 0))
        self.assertEqual(self.place("billing", inf, now=611.0), [Behind(ANNA, 0, 3)])

    def test_never_with_what_is_for_nobody_here(self) -> None:
        self.history.start_at(BERT, 4, None, 12.0)  # its base is not known
        self.history.add(batch("me", 1), 12.0)
        self.history.end(ANNA)
        self.assertEqual(self.place("billing", inf), [])
        self.make(SimStore())
        self.history.start_at(ANNA, 0, 2, 0.0)
        self.send(0.0, 5.0, 10.0)
        self.assertEqual(self.place("billing", inf), [Behind(ANNA, 2, 3)])


class TestTaking(PlacesTestCase):
    """What counts as taken is what the slowest has taken."""

    def test_the_slowest_says_what_all_have_taken(self) -> None:
        self.history.taken(ANNA, 3, {"audit": 1, "billing": 2})
        self.assertEqual(self.stream().slowest, 1)
        self.flush()
        self.assertEqual(self.stream().kept, 1)
        self.history.taken(BERT, 3, {"audit": 1})  # whose stream is closed
        self.assertIsNone(self.history.get(BERT))

    def test_what_lies_below_a_gap_is_held_for_the_slowest(self) -> None:
        self.make(SimStore())
        self.take(1)
        self.take(4, now=1.0)
        list(self.history.give_up(40.0, 30.0))
        self.history.taken(ANNA, 4, {"audit": 0})
        self.assertEqual(len(self.stream()), 2)
        self.history.taken(ANNA, 4, {"audit": 4})
        self.assertEqual(len(self.stream()), 1)

    def test_a_restart_goes_on_where_each_was(self) -> None:
        self.name("audit", "billing")
        self.place("audit", inf)
        self.history.taken(ANNA, 3, {"audit": 0, "billing": 2})
        self.flush()
        self.restart()
        self.assertEqual(self.history.consumers, {"audit": 0, "billing": 0})
        self.assertEqual((self.places(), self.stream().kept), ({"audit": 0, "billing": 2}, 0))
        restored = self.store.restored()
        self.assertEqual(list(restored.untaken(ME[0], "billing")), [Behind(ANNA, 2, 3)])
        self.assertEqual(list(restored.untaken(ME[0])), [])

    def test_a_stream_that_it_has_taken_nothing_of_begins_with_its_first_message(self) -> None:
        self.name("audit")
        self.flush()
        self.restart()
        self.assertEqual(self.places(), {"audit": 0})

    def test_an_own_stream_has_no_places(self) -> None:
        self.name("audit")
        self.history.add(batch("me", 1), 12.0)
        self.flush()
        self.restart()
        self.assertEqual(dict(self.stream(ME).places), {})


class TestNames(PlacesTestCase):
    """The names are stored with the places, and forgotten with them."""

    def test_they_are_a_change(self) -> None:
        self.flush()
        self.assertIsNone(self.begin())
        self.name("audit")
        self.assertEqual(len(self.changes), 1)
        self.assertEqual(self.flush().consumers, {"audit": 0})
        self.assertIsNone(self.begin())

    def test_one_that_is_forgotten_holds_up_nothing(self) -> None:
        self.name("audit", "billing")
        self.history.taken(ANNA, 3, {"audit": 0, "billing": 2})
        self.take(1, name="bert")
        self.flush()
        self.name("billing")
        self.assertEqual((self.places(), self.stream().slowest), ({"billing": 2}, 2))
        self.assertEqual([marks.run for marks in self.flush().marks], [ANNA])

    def test_a_flush_that_failed_has_them_again(self) -> None:
        self.name("audit")
        self.begin()
        self.changes.failed(self.history.get)
        self.assertEqual(self.flush().consumers, {"audit": 0})
        self.name("audit", "billing")
        self.begin()
        self.name("billing")
        self.changes.failed(self.history.get)
        self.assertEqual(self.flush().consumers, {"billing": 0})

    def test_without_a_store_nothing_is_stored(self) -> None:
        history = type(self.history)(self.config)
        history.name_consumers({"audit": 0})
        history.add(batch("anna", 1), 0.0)
        self.assertEqual(history.place("audit", inf, origin_of("me"), 1.0), [Behind(ANNA, 0, 1)])


class TestRetention(PlacesTestCase):
    """What is held for nobody any more, and a consumer that has not taken it."""

    def setUp(self) -> None:
        super().setUp()
        self.make(SimStore(seconds=1000.0))
        self.send(0.0, 5.0, 10.0)
        self.name("audit")
        self.history.taken(ANNA, 3, {"audit": 1})
        self.flush(now=11.0)

    def age(self, now: float) -> list[tuple[tuple[bytes, int], int]]:
        """Let time pass; the runs of which messages were passed over."""
        self.history.age(now, ME, 0)
        flush = self.changes.flush(self.history.get, (ME, 0), self.settled, self.ms, True)
        assert flush is not None
        self.changes.stored(self.store.flush(flush, now), self.history.get)
        self.history.age(now, ME, 0)
        return list(self.history.passed_over())

    def test_as_long_as_it_is_held_nothing_is_passed_over(self) -> None:
        self.assertEqual(self.age(900.0), [])

    def test_what_it_did_not_take_in_time_is_passed_over_once(self) -> None:
        self.assertEqual(self.age(1006.0), [(ANNA, 2)])
        self.history.skipped(ANNA, 2)
        self.assertEqual(self.age(1007.0), [])
        self.assertEqual(self.age(1011.0), [(ANNA, 3)])

    def test_its_stream_stays_until_it_was_told(self) -> None:
        self.age(2000.0)
        self.assertEqual(self.marks(), (4, 3, 0))
        self.history.taken(ANNA, 3, {"audit": 3})
        self.age(2001.0)
        self.assertIsNone(self.history.get(ANNA))
        self.assertEqual(list(self.history.unplaced()), [])

    def test_unless_there_are_too_many_streams(self) -> None:
        self.history.discard(ANNA)
        self.assertEqual(list(self.history.unplaced()), [ANNA])
        self.assertEqual(list(self.history.unplaced()), [])

    def test_messages_below_a_gap_are_told_as_that_gap_is(self) -> None:
        self.take(9, now=20.0)
        list(self.history.give_up(60.0, 30.0))
        self.assertEqual(list(self.history.passed_over()), [])

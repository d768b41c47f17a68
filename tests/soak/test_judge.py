"""The judge finds each broken promise, and finds none if all are kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.judge import MOMENT, Judge, at_rest
from tests.soak.tables import BESIDE, FILES, GROWTH, MIB, QUARTER, STEPS, growth, too_much
from tests.soak.told import KILLED, STOPPED, Life


class JudgeCase(SynchronousTestCase):
    """Two nodes with a history and one without; all have joined at 10, and speak from 20 on."""

    def setUp(self) -> None:
        self.lives: list[Life] = []
        self.author, self.reader, self.newcomer = self.life(0), self.life(1), self.life(2, stored=False)

    def life(self, node: int, number: int = 1, stored: bool = True, began: float = 0.0) -> Life:
        """Add a life, which joins ten seconds after its beginning."""
        life = Life(node, number, stored, began=began)
        life.take({"event": "listening", "id": f"id {node}" if stored else f"id {node}.{number}"}, began)
        life.take({"event": "joined"}, began + 10.0)
        self.lives.append(life)
        return life

    def say(self, life: Life, upto: int, at: float = 20.0) -> None:
        """Let *life* have sent messages up to *upto* at that time."""
        life.take({"event": "sent", "upto": upto}, at)

    def hear(self, life: Life, author: Life, counters: Iterable[int], at: float = 21.0) -> None:
        """Let *life* be delivered these messages of *author*."""
        for counter in counters:
            line = {
                "a": author.node,
                "r": author.number,
                "c": counter,
                "id": author.id,
                "e": 7,
                "s": counter,
            }
            life.take({"event": "got", **line}, at)

    def all_hear(self, author: Life, upto: int, but: Life | None = None) -> None:
        """Let all other lives be delivered messages up to *upto*."""
        for life in self.lives:
            if life not in (author, but):
                self.hear(life, author, range(1, upto + 1))

    def end(self, life: Life, how: str, at: float) -> None:
        """Let a process end."""
        life.ended, life.awake, life.status = how, at, 0

    def found(self, *parts: str) -> None:
        """Assert that there is one broken promise, whose text has *parts*; without *parts*, none."""
        broken = Judge(self.lives).all()
        self.assertEqual(len(broken), 1 if parts else 0, broken)
        for part in parts:
            self.assertIn(part, broken[0])


class CompletenessTests(JudgeCase):
    def test_all_have_all(self) -> None:
        self.say(self.author, 3)
        self.all_hear(self.author, 3)
        self.found()

    def test_one_lacks_the_last(self) -> None:
        self.say(self.author, 3)
        self.all_hear(self.author, 3, but=self.reader)
        self.hear(self.reader, self.author, [1, 2])
        self.found("node 1.1: it lacks 0.1 3 to 3")

    def test_all_is_at_rest_when_all_have_all_and_nothing_is_under_way(self) -> None:
        self.say(self.author, 1)
        self.hear(self.newcomer, self.author, [1])
        self.assertFalse(at_rest(self.lives))
        self.hear(self.reader, self.author, [1])
        self.assertTrue(at_rest(self.lives))
        self.reader.looks.append({"footprint": {"connections": 0, "wants": 1}, "descriptors": 9})
        self.assertFalse(at_rest(self.lives))

    def test_one_twice(self) -> None:
        self.say(self.author, 2)
        self.all_hear(self.author, 2)
        self.hear(self.reader, self.author, [2])
        self.found("node 1.1", "0.1 2 came twice")

    def test_a_hole(self) -> None:
        self.say(self.author, 3)
        self.all_hear(self.author, 3, but=self.reader)
        self.hear(self.reader, self.author, [1, 3])
        self.found("node 1.1", "3 came after 1")

    def test_its_own(self) -> None:
        self.say(self.author, 1)
        self.all_hear(self.author, 1)
        self.hear(self.author, self.author, [1])
        self.found("its own messages")

    def test_a_newcomer_has_what_was_sent_after_it_joined(self) -> None:
        self.say(self.author, 2)
        self.all_hear(self.author, 2)
        late = self.life(3, stored=False, began=30.0)
        self.found()
        self.say(self.author, 4, at=50.0)
        for life in (self.reader, self.newcomer):
            self.hear(life, self.author, [3, 4])
        self.found("node 3.1: it lacks 0.1 3 to 4")
        self.hear(late, self.author, [3, 4])
        self.found()

    def test_a_newcomer_that_begins_too_late(self) -> None:
        late = self.life(3, stored=False, began=0.0)
        self.say(self.author, 3)
        self.all_hear(self.author, 3, but=late)
        self.hear(late, self.author, [2, 3])
        self.found("node 3.1: 0.1 began with 2, not 1")


class CrashTests(JudgeCase):
    def crash(self, how: str = KILLED, at: float = 30.0) -> Life:
        """Let the reader have two messages, end, and start again."""
        self.say(self.author, 2)
        self.all_hear(self.author, 2)
        self.end(self.reader, how, at)
        return self.life(1, 2, began=40.0)

    def test_it_goes_on_where_it_was(self) -> None:
        reader = self.crash()
        self.say(self.author, 3, at=60.0)
        for life in (reader, self.newcomer):
            self.hear(life, self.author, [3], at=61.0)
        self.found()

    def test_what_it_was_delivered_just_before_comes_again(self) -> None:
        reader = self.crash(at=21.0 + MOMENT / 2)
        self.hear(reader, self.author, [2], at=61.0)
        self.found()
        self.assertEqual(Judge(self.lives).again[1], 0)

    def test_and_is_counted(self) -> None:
        reader = self.crash(at=21.0 + MOMENT / 2)
        self.hear(reader, self.author, [2], at=61.0)
        judge = Judge(self.lives)
        self.assertEqual((judge.all(), judge.again[1]), ([], 1))

    def test_what_came_long_before_must_not(self) -> None:
        reader = self.crash(at=21.0 + 2 * MOMENT)
        self.hear(reader, self.author, [2], at=61.0)
        self.found("node 1.2: 0.1 2 came again", "before it was killed")

    def test_while_it_stands_still_nothing_is_stored(self) -> None:
        self.reader.naps.append((21.1, 29.9))
        reader = self.crash(at=30.0)
        self.hear(reader, self.author, [2], at=61.0)
        self.found()

    def test_after_a_stop_nothing_comes_again(self) -> None:
        reader = self.crash(STOPPED, at=21.1)
        self.hear(reader, self.author, [2], at=61.0)
        self.found("node 1.2: 0.1 2 came again", "before it was stopped")

    def test_what_an_author_with_a_history_sent_long_before_its_death_is_not_lost(self) -> None:
        self.say(self.author, 2)
        self.end(self.author, KILLED, 20.0 + 2 * MOMENT)
        self.found()
        self.life(0, 2, began=40.0)
        self.found("node 0.1: 2 of its last messages were lost")
        self.all_hear(self.author, 2, but=self.lives[-1])
        self.found()

    def test_what_it_sent_just_before_can_be(self) -> None:
        self.say(self.author, 2)
        self.end(self.author, KILLED, 20.0 + MOMENT / 2)
        self.life(0, 2, began=40.0)
        self.found()

    def test_those_that_nobody_has_are_counted(self) -> None:
        self.say(self.newcomer, 5)
        self.hear(self.reader, self.newcomer, [1, 2])
        self.hear(self.author, self.newcomer, [1, 2])
        self.end(self.newcomer, KILLED, 20.1)
        judge = Judge(self.lives)
        self.assertEqual((judge.all(), judge.unseen(self.newcomer)), ([], 3))
        self.assertEqual(judge.unseen(self.author), 0)

    def test_what_one_has_of_it_all_have(self) -> None:
        self.say(self.newcomer, 2)
        self.hear(self.reader, self.newcomer, [1])
        self.end(self.newcomer, KILLED, 20.1)
        self.found("node 0.1: it lacks 2.1 1 to 1")


class GapTests(JudgeCase):
    def gap(self, life: Life, first: int, last: int) -> None:
        """Let *life* be told of a gap in the author's run."""
        line = {"id": self.author.id, "e": 7, "first": first, "last": last, "why": "nobody"}
        life.take({"event": "gap", **line}, 30.0)

    def test_of_what_somebody_has(self) -> None:
        self.say(self.author, 3)
        self.all_hear(self.author, 3, but=self.reader)
        self.hear(self.reader, self.author, [1])
        self.gap(self.reader, 2, 2)
        self.hear(self.reader, self.author, [3])
        self.found("node 1.1: a gap was told of", "2 to 2", "which node 2.1 has")

    def test_of_what_nobody_has(self) -> None:
        self.say(self.author, 3)
        self.end(self.author, KILLED, 20.0)
        self.gap(self.reader, 1, 3)
        self.found()


class ReceiptTests(JudgeCase):
    def receipt(self, delivered: list[str], pending: list[str] = [], missed: list[str] = []) -> None:  # noqa: B006
        """Let the author's node tell these sets of its first receipt."""
        self.say(self.author, 1)
        look = {"footprint": {"connections": 2}, "descriptors": 9}
        sets = (delivered, pending, missed)
        self.author.take({"event": "look", "token": 1, "receipts": [[1, *sets]], **look}, 30.0)

    def test_of_all(self) -> None:
        self.receipt(["id 1", "id 2.1"])
        self.all_hear(self.author, 1)
        self.found()

    def test_of_one_that_has_it_not(self) -> None:
        self.receipt(["id 1", "id 2.1", "id 9"])
        self.all_hear(self.author, 1)
        self.found("node 0.1: its receipt 1 names 1 without the message")

    def test_without_one_that_has_it(self) -> None:
        self.receipt(["id 1"], pending=["id 2.1"])
        self.all_hear(self.author, 1)
        self.found("node 0.1: its receipt 1 has node 2.1 as pending")

    def test_one_that_is_gone_may_be_missed(self) -> None:
        self.receipt(["id 1"], missed=["id 2.1"])
        self.hear(self.reader, self.author, [1])
        self.end(self.newcomer, KILLED, 20.5)
        self.found()


class MannersTests(JudgeCase):
    def test_what_alarms(self) -> None:
        self.reader.complaints = 2
        self.found("node 1.1: 2 tracebacks")

    def test_a_bad_end(self) -> None:
        self.end(self.reader, STOPPED, 30.0)
        self.reader.status = 1
        self.found("node 1.1: it ended with status 1")

    def test_a_failure(self) -> None:
        self.reader.take({"event": "failure", "why": "KeyInUse()"}, 30.0)
        self.found("node 1.1: KeyInUse()")

    def looked(self, descriptors: int = 12, **tables: int) -> dict[str, Any]:
        """The look of a node with two connections."""
        return {"footprint": {"connections": 2, **tables}, "descriptors": descriptors}

    def test_tables(self) -> None:
        first = self.looked()
        for look, told in (
            (self.looked(held_bytes=10**7), []),
            (self.looked(wants=1), ["wants still has 1"]),
            (self.looked(claims=BESIDE + 3 * 8), []),
            (self.looked(claims=BESIDE + 3 * 8 + 1), ["claims has 537, above 536"]),
            (self.looked(descriptors=12 + FILES), []),
            (
                self.looked(descriptors=13 + FILES),
                ["it has 17 descriptors beside its connections, and had 10"],
            ),
        ):
            self.assertEqual(list(too_much(look, first, nodes=3, runs=5)), told)
        self.assertEqual(list(too_much(self.looked(descriptors=99), {}, nodes=3, runs=5)), [])

    def weigh(self, resident: int, messages: int = 0, descriptors: int = 12) -> None:
        """Let the reader tell its weight."""
        weight = {"resident": resident, "messages": messages, "descriptors": descriptors, "connections": 2}
        self.reader.take({"event": "weight", **weight}, 30.0)

    def test_memory_that_grows_without_end(self) -> None:
        for at in range(4 * QUARTER):
            self.weigh(60 * MIB + at * (GROWTH + MIB) // QUARTER)
        self.found("node 1.1: its memory without messages grew from")

    def test_memory_that_one_burst_needed_is_no_such_growth(self) -> None:
        for at in range(4 * QUARTER):
            self.weigh(60 * MIB + (at >= 5 * QUARTER // 2) * STEPS)
        self.found()

    def test_but_more_than_one_needs_is(self) -> None:
        for at in range(4 * QUARTER):
            self.weigh(60 * MIB + (at >= 5 * QUARTER // 2) * (STEPS + MIB))
        self.found("node 1.1: its memory without messages grew from")

    def test_memory_that_grows_at_first_and_with_the_messages_that_are_held(self) -> None:
        for at in range(4 * QUARTER):
            self.weigh(40 * MIB + min(at, QUARTER) * GROWTH + at * MIB, at * MIB)
        self.found()

    def test_descriptors_that_are_never_closed(self) -> None:
        for at in range(4 * QUARTER):
            self.weigh(60 * MIB, descriptors=10 + at)
        self.found("node 1.1: its descriptors that are no connections grew from")

    def test_of_a_short_life_no_weight_is_judged(self) -> None:
        for at in range(4 * QUARTER - 1):
            self.weigh(60 * MIB + at * GROWTH)
        self.assertEqual(list(growth(self.reader.weights)), [])

    def test_of_who_was_stopped_at_the_end_the_same_is_asked(self) -> None:
        self.say(self.author, 1)
        self.hear(self.newcomer, self.author, [1])
        for life in self.lives:
            life.lasted = True
            self.end(life, STOPPED, 99.0)
        self.found("node 1.1: it lacks 0.1 1 to 1")

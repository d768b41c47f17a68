"""The drawing of the way of a message: what honest nodes say, and what others may say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli.tree import has_everybody, tree
from twisted_mesh.trace import Step, Trace


def step(name: str, source: str | None = None, state: str = "came", **more: Any) -> Step:
    """What the node *name* says, whose label is *name* and whose id is *name* in capitals."""
    return Step(name.upper(), name, state, source and source.upper(), **more)


def drawn(*steps: Step, author: str = "A") -> list[str]:
    """The lines for these steps."""
    return list(tree(json.loads(msgspec.json.encode(Trace(author, 1, 7, list(steps))))))


class TreeTests(SynchronousTestCase):
    def test_each_node_is_below_the_one_that_brought_it(self) -> None:
        lines = drawn(
            *(step("c", "b", hops=1, held_seconds=0.012, taken=True), step("a", taken=True)),
            *(step("b", "a", taken=True), step("d", "b", hops=1, repaired=True), step("e", "a")),
        )
        self.assertEqual(
            lines,
            [
                "a (A): message 7",
                "├─ b (B): pushed, 1 hop, taken",
                "│  ├─ c (C): pushed, 2 hops, taken after 12 ms",
                "│  └─ d (D): repaired, 2 hops, not taken yet",
                "└─ e (E): pushed, 1 hop, not taken yet",
            ],
        )

    def test_nodes_that_do_not_say_that_it_came_are_below(self) -> None:
        states = ("forgotten", "missing", "silent", "down", "of a later version")
        lines = drawn(step("a"), *(step(f"n{at}", None, state) for at, state in enumerate(states)))
        self.assertEqual(
            [line.partition(": ")[2] for line in lines[1:]],
            [
                "has it, or will not get it; by which way, it does not remember",
                "has not got it",
                "did not answer",
                "is down",
                "of a later version",
            ],
        )

    def test_claims_in_a_circle_or_of_strangers_are_shown_apart_and_once(self) -> None:
        lines = drawn(
            step("a", "b"), step("b", "c"), step("c", "b"), step("d", "x"), step("e", "e"), step("f")
        )
        apart = "by a way that leads nowhere, as its nodes tell it"
        others = [f"{name} ({name.upper()}): {apart}" for name in "bcef"]
        stranger = ["X: was not asked", "└─ d (D): pushed, 1 hop, not taken yet"]
        self.assertEqual(lines, ["a (A): message 7", *stranger, *others])

    def test_those_behind_a_node_that_says_nothing_are_below_it(self) -> None:
        lines = drawn(step("a"), step("b", None, "silent"), step("c", "b", hops=1), step("d", "c", hops=2))
        self.assertEqual(
            lines[1:],
            [
                "b (B): did not answer",
                "└─ c (C): pushed, 2 hops, not taken yet",
                "   └─ d (D): pushed, 3 hops, not taken yet",
            ],
        )

    def test_an_author_that_does_not_answer_is_drawn_all_the_same(self) -> None:
        self.assertEqual(drawn(step("b", "a"))[0], "A: message 7")

    def test_of_a_message_that_no_node_knows_the_author_is_named(self) -> None:
        b, silent = step("b", state="missing"), step("c", state="silent")
        told = "no node that answered knows a message 7 of a (A)"
        for steps, lines in (
            ((step("a", state="missing"), b), ["a (A) has sent no message 7"]),
            ((step("a", state="down"), b), [f"{told}, which is down"]),
            ((step("a", state="silent"), b), [f"{told}, which did not answer"]),
            ((b,), ["no node that answered knows a message 7 of A"]),
            ((step("a", state="down"), b, silent), [f"{told}, which is down", "c (C): did not answer"]),
        ):
            self.assertEqual(drawn(*steps), lines)
        trace = {
            "author": "A",
            "epoch": 5,
            "sequence": 7,
            "steps": [{"id": "A", "label": "a", "state": "missing"}],
        }
        told = "a (A) has sent no message 7 in its run 5, or does not know that run any more"
        self.assertEqual(list(tree(trace, 5)), [told])

    def test_of_a_member_that_is_down_it_tells_for_how_long(self) -> None:
        steps = [{"id": name, "label": None, "state": "down"} for name in "BC"]
        steps.append({"id": "A", "label": None, "state": "forgotten"})
        trace = {"author": "A", "epoch": 5, "sequence": 7, "steps": steps}
        self.assertEqual([*tree(trace, None, {"B": "4 min"})][1:], ["B: is down for 4 min", "C: is down"])

    def test_no_label_steers_the_terminal(self) -> None:
        (line,) = drawn(Step("A", "\x1b[2J", "came"))
        self.assertNotIn("\x1b", line)

    def test_it_has_come_to_everybody_only_if_all_say_so(self) -> None:
        for steps, everybody in (
            ((step("a"), step("b", "a")), True),
            ((step("a", state="silent"),), False),
        ):
            told = json.loads(msgspec.json.encode(Trace("A", 1, 7, list(steps))))
            self.assertEqual(has_everybody(told), everybody)

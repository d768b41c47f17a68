"""Numbers and names of things in sentences."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.grammar import a, counted, were


class GrammarTests(SynchronousTestCase):
    def test_one_thing_is_one_and_more_are_many(self) -> None:
        told = [counted(count, "message") for count in (0, 1, 2, 2000)]
        self.assertEqual(told, ["0 messages", "1 message", "2 messages", "2,000 messages"])

    def test_the_verb_goes_with_the_number(self) -> None:
        told = [were(count, "line", " about it") for count in (0, 1, 2)]
        self.assertEqual(told, ["0 lines about it were", "1 line about it was", "2 lines about it were"])
        self.assertEqual(were(1, "line"), "1 line was")

    def test_the_article_goes_with_the_sound(self) -> None:
        self.assertEqual([a(noun) for noun in ("set", "object", "int")], ["a set", "an object", "an int"])

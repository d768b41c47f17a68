"""Text of other nodes as it is shown."""

from __future__ import annotations

import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.escaping import for_json, for_terminal

#: Marks of direction, then what shows nothing.
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
HIDDEN = "\xad\u200b\u2060\ufeff\U000e0041\u3164\ue000\u2028\u2029\udcff\x00\x1b\x7f\x9b\n\r"
ORDINARY = "Zoë 10\xa0€ می\u200cخواهم שלום 日本\u3000語 👨\u200d👩\u200d👧 ❤\ufe0f e\u0301"  # noqa: RUF001


class EscapingTests(SynchronousTestCase):
    def test_what_turns_or_hides_text_is_escaped(self) -> None:
        for char in TURNING + HIDDEN:
            escaped = char.encode("unicode_escape").decode()
            self.assertEqual(for_terminal(f"{char}a{char}{ORDINARY}"), f"{escaped}a{escaped}{ORDINARY}")
            line = for_json([f"{char}a", ORDINARY])
            self.assertNotIn(char, line)
            self.assertIn(ORDINARY, line)
            self.assertEqual(json.loads(line), [f"{char}a", ORDINARY])

    def test_a_tab_stays_on_a_terminal(self) -> None:
        self.assertEqual(for_terminal("a\tb\n"), "a\tb\\n")

    def test_plain_text_stays(self) -> None:
        self.assertEqual(for_terminal(r"plain \n"), r"plain \n")
        self.assertEqual(for_json({"plain": 1}), '{"plain": 1}')

    def test_a_text_of_more_characters_than_any_script_has_is_escaped_whole(self) -> None:
        """It would hold up the process to look at each."""
        text = "".join(map(chr, range(0, sys.maxunicode + 1, 8)))
        self.assertTrue(for_terminal(text).isascii())
        line = for_json(text)
        self.assertTrue(line.isascii() and line.isprintable())
        # A pair of surrogates is one character to JSON.
        self.assertEqual(
            json.loads(line).encode("utf-16", "surrogatepass"), text.encode("utf-16", "surrogatepass")
        )

"""Text and names of other nodes on a terminal, in a log, or in JSON.

Contract: no character of the result moves a cursor, ends a line, turns the direction of the text around it,
or shows nothing.  Letters, marks, symbols and spaces of every script stay as they are, unless a text has
more different characters than any script.
"""

from __future__ import annotations

import json
from typing import Any, Final
from unicodedata import category

#: Format characters that some scripts and emoji need: they join or part the letters beside them.
_JOINERS: Final = "\u200c\u200d"
#: Characters that Unicode counts as letters, and that show nothing.
_FILLERS: Final = "\u115f\u1160\u3164\uffa0"
_SPACE: Final = "Zs"
ID_SHOWN: Final = 8  # characters of an id that are shown; the first four are enough to name a member
#: A text with more different characters than this is escaped whole, since it would take over 50 ms to look
#: all of them up (measured).  Unicode's first block of Han characters has 21,000.
_DIFFERENT: Final = 30_000


def for_terminal(text: str) -> str:
    r"""*text* as one line, with ``\x1b``, ``\u202e`` and the like for characters that are not shown."""
    if (hidden := _hidden(text)) is None:
        return text.encode("unicode_escape").decode()
    hidden.discard("\t")
    return _translated(text, {ord(char): char.encode("unicode_escape").decode() for char in hidden})


def name_of(node_id: str, label: str | None) -> str:
    """``web1 (8zyRhwxM)``; without a label the beginning of the id."""
    return f"{for_terminal(label)} ({node_id[:ID_SHOWN]})" if label else node_id[:ID_SHOWN]


def for_json(value: Any) -> str:
    r"""*value* as a line of JSON, with ``\u202e`` and the like for characters that are not shown."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if (hidden := _hidden(line)) is None:
        return json.dumps(value, allow_nan=False)
    return _translated(line, {ord(char): json.dumps(char)[1:-1] for char in hidden})


def _translated(text: str, table: dict[int, str]) -> str:
    return text.translate(table) if table else text


def _hidden(text: str) -> set[str] | None:
    """The characters of *text* that a terminal would not show.

    :return: None if *text* has more than _DIFFERENT different characters, which are too many to look up.
    """
    if text.isascii() and text.isprintable():
        return set()
    different = set(text)
    return {char for char in different if _hides(char)} if len(different) <= _DIFFERENT else None


def _hides(char: str) -> bool:
    if char.isprintable():
        return char in _FILLERS
    return char not in _JOINERS and category(char) != _SPACE

"""How hypothesis works here: the same examples in every run, on a machine however slow."""

from __future__ import annotations

from hypothesis import settings

from tests.support.length import at_length

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=at_length(300, 30))

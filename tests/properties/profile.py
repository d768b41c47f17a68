"""How hypothesis works here: the same examples in every run, on a machine however slow."""

from __future__ import annotations

from hypothesis import settings

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=60)

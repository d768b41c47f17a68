"""How long tests run: by default for a short time, and in full where ``MESH_LONG`` is set."""

from __future__ import annotations

import os
from typing import Final, TypeVar
from unittest import SkipTest

_Value = TypeVar("_Value")

LONG: Final = "MESH_LONG" in os.environ


def at_length(full: _Value, brief: _Value) -> _Value:
    """*full* if ``MESH_LONG`` is set, else *brief*."""
    return full if LONG else brief


def only_at_length() -> None:
    """Skip the rest of the test unless ``MESH_LONG`` is set."""
    if not LONG:
        raise SkipTest("takes seconds: with MESH_LONG")

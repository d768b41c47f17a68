"""The functions that a page of the documentation defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.test_docs import code_blocks

DOCS = Path(__file__).parents[2] / "docs"


def functions_of(page: str, **names: Any) -> dict[str, Any]:
    """Run the Python blocks of a page; return the names that they define.

    :param names: that the blocks use and do not define.
    """
    namespace: dict[str, Any] = dict(names)
    exec("".join(code_blocks((DOCS / page).read_text())), namespace)
    return namespace

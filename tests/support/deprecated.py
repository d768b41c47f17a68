"""Deprecation warnings that calls of this package or of its tests cause: each is a failure.

Warnings that other packages cause are ignored: a new release of one must not fail these tests.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent
_OURS = ("twisted_mesh", "tests")
#: They pass on objects of the package; OpenSSL's warnings about those name these modules.
_GO_BETWEENS = ("twisted.internet._sslverify", "OpenSSL.SSL")


def make_failures() -> None:
    """Let such warnings raise, in this process and in its forks."""
    # For a warning during a test, Trial passes the path of the file; else it is the name of the module.
    ours = [re.escape(name) for name in _OURS] + [re.escape(str(_ROOT / name)) for name in _OURS]
    others = [name.replace(".", "[./]") for name in _GO_BETWEENS]
    for place in (rf"({'|'.join(ours)})([./]|$)", rf"(.*[./])?({'|'.join(others)})$"):
        warnings.filterwarnings("error", category=DeprecationWarning, module=place)


@cache
def for_processes() -> str:
    """The PYTHONWARNINGS that let them raise in another process: it must name each module."""
    files = (_ROOT / "twisted_mesh").rglob("*.py")
    parts = [file.relative_to(_ROOT).with_suffix("").parts for file in files]
    modules = {".".join(part for part in some if part != "__init__") for some in parts}
    return ",".join(f"error::DeprecationWarning:{module}" for module in sorted({*modules, *_GO_BETWEENS}))

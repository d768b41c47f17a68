"""Warnings of what is deprecated, of calls of ours: each is a failure.

Those of other packages are theirs to mend, and a new release of one must not fail our tests.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent
_OURS = ("twisted_mesh", "tests")
#: These hand on what the package gives them, and what OpenSSL deprecates of that is told of them.
_GO_BETWEENS = ("twisted.internet._sslverify", "OpenSSL.SSL")


def make_failures() -> None:
    """Let deprecated calls of ours raise, in this process and in its forks."""
    # Trial knows the file alone of what warned during a test; else it is the module's name.
    ours = [re.escape(name) for name in _OURS] + [re.escape(str(_ROOT / name)) for name in _OURS]
    others = [name.replace(".", "[./]") for name in _GO_BETWEENS]
    for place in (rf"({'|'.join(ours)})([./]|$)", rf"(.*[./])?({'|'.join(others)})$"):
        warnings.filterwarnings("error", category=DeprecationWarning, module=place)


@cache
def for_processes() -> str:
    """PYTHONWARNINGS with which they raise in another process, where each module has to be named."""
    files = (_ROOT / "twisted_mesh").rglob("*.py")
    parts = [file.relative_to(_ROOT).with_suffix("").parts for file in files]
    modules = {".".join(part for part in some if part != "__init__") for some in parts}
    return ",".join(f"error::DeprecationWarning:{module}" for module in sorted({*modules, *_GO_BETWEENS}))

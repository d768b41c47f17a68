"""The committed inputs of each target.

Contract: ``corpus/TARGET.hex`` has an input in hex on each line, the shortest first.  The first ones were
the vectors of the protocol; ``python -m tests.fuzz --keep`` makes them few that reach every branch
that was reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

NAMES: Final = ("framing", "greeting", "connection", "frames", "bodies", "core")
_FOLDER: Final = Path(__file__).parent / "corpus"


def path(name: str) -> Path:
    """The file of the target *name*."""
    return _FOLDER / f"{name}.hex"


def read(name: str) -> list[bytes]:
    """The committed inputs of the target *name*."""
    return [bytes.fromhex(line) for line in path(name).read_text().splitlines()]


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Replace the inputs of the target *name*."""
    lines = sorted({data.hex() for data in inputs}, key=lambda line: (len(line), line))
    path(name).write_text("".join(f"{line}\n" for line in lines))

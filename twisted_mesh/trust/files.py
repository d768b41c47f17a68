"""Reads the files that say who belongs to the mesh.

Contract: :func:`read_lines` raises :class:`~twisted_mesh.errors.TrustError` for a file that cannot be used.
Its text names the file and says what to do about it, and holds nothing of the content.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from twisted_mesh.errors import TrustError

#: Bytes of a file: 60,000 ids have room (guess).
MAX_BYTES: Final = 4 * 1024 * 1024


def read_lines(path: Path, kind: str, forbidden: int, remedy: str) -> list[tuple[int, str]]:
    """The numbers and the texts of the lines of a file, without empty lines and comments.

    :param kind: what the file holds, for errors.
    :param forbidden: the bits of its mode that must not be set; *remedy* is the mode to give to chmod.
    :raises TrustError: the file cannot be read, is no ASCII text, or others may do what *forbidden* says.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{kind} {path}: {error.strerror}") from None
    if mode & forbidden:
        what = "read" if forbidden & stat.S_IRGRP else "changed"
        raise TrustError(f"{kind} {path} can be {what} by others: chmod {remedy} {path}")
    if len(data) > MAX_BYTES:
        raise TrustError(f"{kind} {path} has more than {MAX_BYTES} bytes: name the right file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TrustError(f"{kind} {path} is no text: name the right file") from None
    lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line]

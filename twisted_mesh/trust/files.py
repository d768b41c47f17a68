"""Reads the files that say who belongs to the mesh.

Contract: both functions raise :class:`~twisted_mesh.errors.TrustError` for a file that cannot be used.  Its
text names the file and says what to do about it, and holds nothing of the content.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from twisted_mesh.errors import TrustError
from twisted_mesh.identity import open_regular

#: Bytes of a file: 60,000 ids have room (guess).
MAX_BYTES: Final = 4 * 1024 * 1024
#: Begins the comment in the public file of an authority.
OF_AUTHORITY: Final = "the authority of"


class Lines(NamedTuple):
    """The lines of a file that are neither empty nor comments, each with its number.

    :ivar since: when the file was written, in seconds since 1970.
    """

    lines: list[tuple[int, str]]
    since: float


def read_lines(path: Path, kind: str, forbidden: int, remedy: str, other: str | None = None) -> Lines:
    """The lines of a file; what follows ``#`` in a line is a comment.

    :param kind: what the file holds, for errors.
    :param forbidden: the bits of its mode that must not be set; *remedy* is the mode to give to chmod.
    :param other: a comment that a file has which holds another thing.
    :raises TrustError: the file cannot be read, is no text, has that comment, or others may do what
        *forbidden* says.
    """
    data, since = read_bytes(path, kind, forbidden, remedy)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TrustError(f"{kind} {path} is no text: name the right file") from None
    if other is not None and f"# {other}" in text:
        raise TrustError(f"{kind} {path} has the key of {other} a mesh: name the right file")
    lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return Lines([(number, line) for number, line in lines if line], since)


def read_bytes(path: Path, kind: str, forbidden: int, remedy: str) -> tuple[bytes, float]:
    """The content of a file, and when it was written; parameters and errors as of :func:`read_lines`."""
    try:
        with open_regular(path) as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{kind} {path}: {error.strerror}; name a file that this node can read") from None
    if status.st_mode & forbidden:
        what = "read" if forbidden & stat.S_IRGRP else "changed"
        raise TrustError(f"{kind} {path} can be {what} by others: chmod {remedy} {path}")
    if len(data) > MAX_BYTES:
        raise TrustError(f"{kind} {path} has more than {MAX_BYTES} bytes: name the right file")
    return data, status.st_mtime

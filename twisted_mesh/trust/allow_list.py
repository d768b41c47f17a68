"""Lists of the nodes that may belong to the mesh, or may not.

Contract: a list is a file with one id a line; what follows ``#`` is for people.  Others may read it, and
must not be able to change it.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from twisted_mesh.errors import TrustError
from twisted_mesh.trust.files import read_lines
from twisted_mesh.wire.membership import MAX_ID, MIN_ID

DIGEST_BYTES: Final = 8  # bytes of a list's hash in a node's record, enough to tell lists apart (guess)
_BASE58: Final = frozenset("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")


def read_ids(path: Path, kind: str, *, may_be_empty: bool) -> frozenset[bytes]:
    """The ids in the file *path*.

    :param kind: what the list is for, for errors.
    :raises TrustError: the file cannot be used; the text says what to do about it, and shows nothing of the
        file, which may be that of the secret by mistake.
    """
    found: dict[str, int] = {}
    lines, _ = read_lines(path, kind, stat.S_IWGRP | stat.S_IWOTH, "go-w")
    for number, line in lines:
        if not is_id(line):
            raise TrustError(f"{kind} {path}, line {number}, is not the id of a node, as mesh id prints it")
        if line in found:
            raise TrustError(f"{kind} {path}, line {number}: that id is in line {found[line]}, too")
        found[line] = number
    if not found and not may_be_empty:
        raise TrustError(f"{kind} {path} is empty: add the ids of the nodes, one a line")
    return frozenset(line.encode() for line in found)


def is_id(text: str) -> bool:
    """Whether *text* can be the id of a node."""
    return MIN_ID <= len(text) <= MAX_ID and _BASE58.issuperset(text)


def digest_of(lists: Iterable[frozenset[bytes]]) -> bytes:
    """8 bytes that are the same at nodes with the same lists."""
    digest = hashlib.sha256()
    for ids in lists:
        digest.update(len(ids).to_bytes(8, "big") + b"".join(id + b"\n" for id in sorted(ids)))
    return digest.digest()[:DIGEST_BYTES]

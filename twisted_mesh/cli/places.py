"""Where the control sockets of this machine's nodes are.

Contract: a socket is only ever put into a folder that belongs to this user (or to root), and that no other
user can write or move; so no other user can put a socket there in its place.  Nothing here imports Twisted.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SYSTEM: Final = Path("/run/twisted_mesh")  # as systemd makes it for ``RuntimeDirectory=twisted_mesh``
MOST_PATH: Final = 107  # bytes of a UNIX socket's path (Linux's sockaddr_un, without the last zero byte)
_NAME: Final = re.compile(r"node-\d+\.sock")
_LOOKED_AT: Final = 1024  # sockets in one folder that are looked at; others are left alone (guess)


class Unusable(Exception):
    """A path cannot be used for a control socket; the text says why."""


def folders(environ: Mapping[str, str]) -> list[Path]:
    """The folders in which the nodes of this user, or of this machine, have their sockets."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return [SYSTEM, *([Path(runtime) / SYSTEM.name] if os.path.isabs(runtime) else [])]


def choose(environ: Mapping[str, str], beside: Path | None) -> Path:
    """The path for the socket of this process's node.

    :param beside: a file whose folder is used if no other can be.
    :raises Unusable: no folder can be used.
    """
    reasons = []
    for folder in (*folders(environ), *([] if beside is None else [beside.absolute().parent])):
        try:
            _prepare(folder)
        except (OSError, Unusable) as error:
            reasons.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
        else:
            return folder.resolve() / f"node-{os.getpid()}.sock"
    raise Unusable(f"no folder for it ({'; '.join(reasons)})")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process choose, claim or remove sockets in *folder* meanwhile.

    Between its making and its first connection a socket looks as if its process were gone.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def claim(path: Path) -> Path:
    """Make *path* free for a new socket: remove a socket there, if no process answers on it.

    :return: the path without links of folders, to listen at.

    :raises Unusable: the path is too long, its folder can be written by others, something else than a
        socket is there, or a process answers.
    """
    _check(path.parent)
    path = path.parent.resolve() / path.name
    if len(os.fsencode(path)) > MOST_PATH:
        raise Unusable(f"its path has more than {MOST_PATH} bytes")
    if not path.exists() and not path.is_symlink():
        return path
    if not path.is_socket() or path.is_symlink():
        raise Unusable("there is something else than a socket")
    if answers(path):
        raise Unusable("a node answers there")
    path.unlink()
    return path


def remove_dead(folder: Path) -> None:
    """Remove the sockets in *folder* that are left of nodes which were killed."""
    for path in _sockets(folder):
        if not answers(path):
            with suppress(OSError):
                path.unlink()


def found(environ: Mapping[str, str]) -> list[Path]:
    """The sockets of the nodes of this machine that answer, sorted by path."""
    return [path for folder in folders(environ) for path in _sockets(folder) if answers(path)]


def answers(path: Path) -> bool:
    """Whether some process accepts connections at *path*."""
    with socket.socket(socket.AF_UNIX) as trying:
        trying.setblocking(False)  # such a connection is made at once, or cannot be made now
        try:
            trying.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # as with a full backlog: some process has it
        return True


def _sockets(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    except OSError:
        return
    for name in names[:_LOOKED_AT]:
        if (path := folder / name).is_socket():
            yield path


def _prepare(folder: Path) -> None:
    """Make *folder* if it is missing, and check it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unusable("this user cannot write it")


def _check(folder: Path) -> None:
    """
    :raises Unusable: another user can write *folder*, or move it.
    """
    folder = folder.resolve(strict=True)
    for place in (folder, *folder.parents):
        state = place.stat()
        others_write = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if state.st_uid not in (os.getuid(), 0):
            raise Unusable(f"{'it' if place == folder else place} belongs to another user")
        if others_write and (place == folder or not state.st_mode & stat.S_ISVTX):
            raise Unusable(f"others can write {'it' if place == folder else place}")

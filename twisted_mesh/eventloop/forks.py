"""A process that was forked off one in which nodes run: it must not keep what is theirs.

Contract: whoever has something open that a fork would hold open too, and registers it with
:func:`close_in_forks`, is told in the child, right after the fork and before anything else runs there.
What it does then changes nothing for the parent: descriptors are closed, and no more.  A port, a link or
the lock of a file that a child had as well would be in use for as long as that lives, though the node is
gone.  What was registered is given up in the child, which has no reactor to run it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol
from weakref import WeakMethod

_open: set[WeakMethod[Callable[[], None]]] = set()  # of whoever is dropped nothing is open


class _Closes(Protocol):
    def close(self) -> object: ...  # pragma: no cover


def close_in_forks(close: Callable[[], None]) -> None:
    """Let the method *close* be called in each child that is forked off from now on, until :func:`closed`.

    It takes no lock, which a thread that is not in the child may hold, and uses no reactor.
    """
    _open.add(WeakMethod(close, _open.discard))


def closed(close: Callable[[], None]) -> None:
    """In children to come there is nothing to *close* any more."""
    _open.discard(WeakMethod(close))


def close_socket(transport: object) -> None:
    """Close this process's descriptor of a port or a connection of Twisted, and say nothing to the far end.

    What has no socket, as a connection in memory, stays as it is.
    """
    while (socket := getattr(transport, "socket", None)) is None:
        transport = getattr(transport, "transport", None)  # TLS is around it
        if transport is None:
            return
    closes: _Closes = socket
    closes.close()  # its number may be another file's soon, so it must know


def never_free(thing: object) -> None:
    """Keep *thing* to the very end of this process, without what freeing it would do."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    with ExitStack() as each:  # all of them, whatever fails
        for reference in _open:
            if (close := reference()) is not None:
                each.callback(close)
        _open.clear()


os.register_at_fork(after_in_child=_in_child)

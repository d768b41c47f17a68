"""Forks of a process in which nodes run: a child must not keep a node's ports, links and locks open.

Contract: a method registered with :func:`close_in_forks` is called in each child, right after the fork and
before any other code.  It closes descriptors and changes nothing for the parent.  Otherwise a port, a link
or a locked file would stay in use as long as the child lives, even after the node has ended.  The child
gives the node up, as no reactor runs there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol
from weakref import WeakMethod

_open: set[WeakMethod[Callable[[], None]]] = set()  # weak: an object that is freed has nothing open


class _Closes(Protocol):
    def close(self) -> object: ...  # pragma: no cover


def close_in_forks(close: Callable[[], None]) -> None:
    """Call the method *close* in each child that is forked from now on, until :func:`closed`.

    *close* must use no reactor and no lock: a thread that does not exist in the child may hold it.
    """
    _open.add(WeakMethod(close, _open.discard))


def closed(close: Callable[[], None]) -> None:
    """Do not call *close* in later children."""
    _open.discard(WeakMethod(close))


def close_socket(transport: object) -> None:
    """Close this process's descriptor of a port or connection of Twisted; the far end does not notice.

    A transport without a socket, such as one in memory, stays as it is.
    """
    while (socket := getattr(transport, "socket", None)) is None:
        if (transport := getattr(transport, "transport", None)) is None:  # TLS is around another transport
            return
    closes: _Closes = socket
    closes.close()  # os.close() would leave the socket a number that may soon be another file's


def never_free(thing: object) -> None:
    """Keep *thing* until this process ends, so that it is never freed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    with ExitStack() as each:  # all of them are called, even if one fails
        for reference in _open:
            if (close := reference()) is not None:
                each.callback(close)
        _open.clear()


os.register_at_fork(after_in_child=_in_child)

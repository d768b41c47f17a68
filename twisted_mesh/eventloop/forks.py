"""Forks of a process in which nodes run: a child must not keep a node's ports, links and locks open.

Contract: methods registered with :func:`close_in_forks` are called in each child, right after the fork and
before any other code.  They close the child's descriptors, and change nothing for the parent.  Otherwise a
port, a link or a locked file would stay in use while the child lives, even after the node has stopped.  The
child has no use for the node, since no reactor runs there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import ExitStack
from weakref import WeakMethod

_open: set[WeakMethod[Callable[[], None]]] = set()  # weak, as a freed object has nothing open


def close_in_forks(close: Callable[[], None]) -> None:
    """Call the method *close* in each child that is forked from now on, until :func:`closed`.

    *close* must use no reactor and no lock: a lock may be held by a thread that the child does not have.
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
        if (transport := getattr(transport, "transport", None)) is None:  # TLS has another transport inside
            return
    socket.close()  # not os.close(): when freed, the socket would close another file of its number


def never_free(thing: object) -> None:
    """Keep *thing* until this process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    with ExitStack() as each:  # each method is called, even if another fails
        for reference in _open.copy():  # freed objects go off the set while it is read
            if (close := reference()) is not None:
                each.callback(close)
        _open.clear()


os.register_at_fork(after_in_child=_in_child)

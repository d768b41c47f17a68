"""The address book: the nodes that this node was linked with, and their addresses.

Contract: the book is a file beside the identity's file.  It has a line ``ID@host:port`` for each node, the
newest first, up to a limit.  A thread writes the file, so that the reactor does not wait for the disk; if
addresses change meanwhile, the file is written once more.  If it cannot be read or written, that is logged
once, and the node goes on without a file.  :func:`dialled_at` checks the addresses that peers tell.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import PeerAddress, parse_peer
from twisted_mesh.core.reachability import believed
from twisted_mesh.errors import LocalError
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.identity import replace_synced
from twisted_mesh.wire.membership import MAX_HOST

#: Calls a function in another thread; the Deferred fires when the function has returned.
InThread = Callable[[Callable[[], None]], Deferred[None]]

_log = Logger()


class AddressBook:
    """The addresses of nodes, by id."""

    def __init__(self, identity: Path, limit: int, in_thread: InThread = execute) -> None:
        """
        :param identity: the file of the key; the book is ``IDENTITY.peers``.
        :param limit: addresses kept; for one more, the node that was linked longest ago is forgotten.
        :param in_thread: calls, in a thread, the function that writes the file.
        """
        self._path = identity.with_name(identity.name + ".peers")
        self._limit = limit
        self._can_write = True  # whether the last write succeeded
        self._in_thread = in_thread
        self._is_writing = self._has_changed = False
        self._written = WaitingDeferreds[None]()
        self._known = OrderedDict(self._read())  # the newest last

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[PeerAddress]:
        """The addresses, the newest first."""
        for node_id, (host, port) in reversed(self._known.items()):
            yield PeerAddress(host, port, node_id)

    def note(self, node_id: bytes, address: tuple[str, int]) -> None:
        """Note that this node is linked with *node_id*, which can be dialled at *address*."""
        known = self._known.get(node_id)
        self._known[node_id] = address
        self._known.move_to_end(node_id)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        if known != address:  # a new order alone is not written
            self._has_changed = True
            self._write()

    def written(self) -> Deferred[None]:
        """Fires when the addresses noted so far are on disk, or writing them has failed."""
        return self._written.wait() if self._is_writing else succeed(None)

    def _read(self) -> list[tuple[bytes, tuple[str, int]]]:
        """Read the ids and addresses in the file, the newest last."""
        try:
            lines = self._path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            _log.warn("address book {path}: {why}", path=self._path, why=error.strerror)
            return []
        addresses = []
        for line in lines[: self._limit]:
            try:
                address = parse_peer(line)
            except LocalError:
                address = PeerAddress()
            if address.id is not None and address.host is not None:
                addresses.append((address.id, (address.host, address.port)))
        if len(addresses) < len(lines[: self._limit]):
            _log.warn("address book {path}: lines that are no ID@host:port are left out", path=self._path)
        return addresses[::-1]

    def _write(self) -> None:
        """Write all addresses; if a write is under way, another follows it."""
        if self._is_writing:
            return
        self._is_writing, self._has_changed = True, False
        lines = [f"{address.id.decode()}@{address}\n" for address in self if address.id is not None]
        writing = self._in_thread(partial(replace_synced, self._path, "".join(lines).encode()))
        writing.addBoth(self._write_ended)

    def _write_ended(self, failure: Failure | None) -> None:
        if failure is not None and isinstance(error := failure.value, OSError):
            if self._can_write:
                _log.warn("address book {path}: {why}", path=self._path, why=error.strerror)
        elif failure is not None:
            _log.failure("writing the address book failed", failure)
        self._can_write = failure is None
        self._is_writing = False
        if self._has_changed:
            self._write()
        else:
            self._written.happened(None)


def in_thread(reactor: Any) -> InThread:
    """Return a caller of functions in a thread of *reactor*, or, for a Clock, a caller in this thread."""
    if not IReactorThreads.providedBy(reactor):
        return execute
    return partial(deferToThreadPool, reactor, reactor.getThreadPool())


def dialled_at(told: tuple[str, int], source: str) -> tuple[str, int] | None:
    """The address to dial for a node whose connection came from *source*, and which *told* an address.

    Some addresses mean a different host on each host, for example those of loopback.  If a peer tells such
    an address, *source* replaces its host (:func:`~twisted_mesh.core.reachability.believed`): otherwise the
    peer could make this node dial services on its own host.  The result is None if no address is usable.
    """
    host, port = told
    if not 0 < port < 65536 or len(host) > MAX_HOST or not host.isascii() or not host.isprintable():
        return None
    if believed(host, ""):
        return host, port
    try:
        ipaddress.ip_address(source)
    except ValueError:
        return None  # the node came from no IP address, but from a UNIX socket
    return source, port

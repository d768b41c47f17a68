"""The nodes this one was linked with, and where they can be dialled; kept beside the identity.

Contract: a line ``ID@host:port`` for each, the newest first, at most so many.  What a peer says of itself
is checked here.  The file is a help and no more: what cannot be read or written of it is logged once,
and the node goes on without.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from twisted_mesh.addresses import PeerAddress, parse_peer
from twisted_mesh.core.contacts import believed
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import replace_synced
from twisted_mesh.wire.membership import MAX_HOST

_log = Logger()


class AddressBook:
    """Where nodes can be dialled, by id."""

    def __init__(self, identity: Path, limit: int) -> None:
        """
        :param identity: the file of the key; the book is ``IDENTITY.peers``.
        :param limit: addresses; of more the one that was linked with longest ago is forgotten.
        """
        self._path = identity.with_name(identity.name + ".peers")
        self._limit = limit
        self._known: OrderedDict[bytes, tuple[str, int]] = OrderedDict()  # the newest last
        self._can_write = True
        for address in self._read():
            assert address.id is not None and address.host is not None
            self._known[address.id] = address.host, address.port

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[PeerAddress]:
        """What is known, the newest first."""
        for node_id, (host, port) in reversed(self._known.items()):
            yield PeerAddress(host, port, node_id)

    def note(self, node_id: bytes, address: tuple[str, int]) -> None:
        """A link to the node *node_id* is up, which can be dialled at *address*."""
        known = self._known.get(node_id)
        self._known[node_id] = address
        self._known.move_to_end(node_id)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        if known != address:  # the order alone is not worth a write that waits for the disk
            self._write()

    def _read(self) -> list[PeerAddress]:
        """What the file holds, the newest last."""
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
                addresses.append(address)
        if len(addresses) < len(lines[: self._limit]):
            _log.warn("address book {path}: lines that are no ID@host:port are left out", path=self._path)
        return addresses[::-1]

    def _write(self) -> None:
        lines = [f"{address.id.decode()}@{address}\n" for address in self if address.id is not None]
        try:
            replace_synced(self._path, "".join(lines).encode())
        except OSError as error:
            if self._can_write:
                _log.warn("address book {path}: {why}", path=self._path, why=error.strerror)
            self._can_write = False
        else:
            self._can_write = True


def dialled_at(told: tuple[str, int], source: str) -> tuple[str, int] | None:
    """Where a node that came from the host *source* can be dialled, by what it *told*; None for nowhere.

    What would not be believed of who is far away (:func:`~twisted_mesh.core.contacts.believed`), as an
    address that means another host on each host (this one, or one of the same wire), is taken for that of
    the host it came from: else a peer could have a node dial whatever listens beside it.
    """
    host, port = told
    if not 0 < port < 65536 or len(host) > MAX_HOST or not host.isascii() or not host.isprintable():
        return None
    if believed(host, ""):
        return host, port
    try:
        ipaddress.ip_address(source)
    except ValueError:
        return None  # of a UNIX socket, for example
    return source, port

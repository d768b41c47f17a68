"""The connections of one run: all there are, those that have proven nothing yet, and the routing table.

Contract: keeps them within ``links_limit`` and ``handshakes_limit``; what comes over them and what goes out
is the hub's.  Strangers are many only at their own cost: the oldest makes room for the newest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import MappingProxyType

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.link_machine import Phase
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, is_in_time
from twisted_mesh.links.protocol import MeshProtocol

_log = Logger()


class Connections:
    """Every connection, proven or not, by the number of its link.

    :ivar table: the routing table, by id, read-only.
    """

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._links: dict[int, MeshProtocol] = {}
        self._strangers: OrderedDict[int, MeshProtocol] = OrderedDict()  # accepted, not proven
        self._table: dict[bytes, MeshProtocol] = {}
        self.table: Mapping[bytes, MeshProtocol] = MappingProxyType(self._table)
        self._idle = WaitingDeferreds[None]()  # for the last connection to go
        self._over: RemoteError | None = None  # why no other is let in

    def __iter__(self) -> Iterator[MeshProtocol]:
        """Those there are now, whatever comes and goes meanwhile."""
        return iter(list(self._links.values()))  # in one step: other threads may ask

    def get(self, number: int) -> MeshProtocol | None:
        """The link with that number, if it is there still."""
        return self._links.get(number)

    def link_with(self, node_id: bytes) -> Deferred[MeshProtocol]:
        """The link with a node that is or will be in the routing table.

        It fails with LOST when there is none left that could be.
        """
        for link in self:
            if link.id == node_id and link.error is None and not link.visits:
                return link.when_up()
        return fail(RemoteError("the link that was kept is gone", Reason.LOST))

    def awaiting(self) -> list[MeshProtocol]:
        """Connections that may still come into the routing table."""
        return [link for link in self if not (link.is_up or link.visits) and link.error is None]

    async def all_gone(self, clock: IReactorTime) -> None:
        """Wait until there is no connection left; ``close_timeout`` after it was closed each is cut off."""
        longest = 2 * self._config.close_timeout
        if self._links and not await is_in_time(self._idle.wait(), longest, clock):
            # Twisted tells the end of a connection that was cut off by a timer of the reactor, which is
            # late by hours where the clock was set back at that very moment.
            _log.warn("{count} connections were cut off, and do not say so", count=len(self._links))
            self._links.clear()

    def close_all(self, error: RemoteError) -> None:
        """Close every link with *error*."""
        with ExitStack() as closing:  # all of them, whatever fails
            for link in self:
                closing.callback(link.close, error)

    def end(self, error: RemoteError) -> None:
        """Close every link with *error*, and each that is still made."""
        self._over = error
        self.close_all(error)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "connections": len(self._links),
            "strangers": len(self._strangers),
            "routing_table": len(self._table),
            "queued_bytes": sum(link.queued_bytes for link in self._links.values()),
        }

    # ── what becomes of one ─────────────────────────────────────────────────────────

    def made(self, link: MeshProtocol) -> None:
        """It is there, and nothing proven."""
        self._links[link.number] = link
        if self._over is not None:
            link.close(self._over)
        elif not link.outgoing:
            self._strangers[link.number] = link
            if len(self._strangers) > self._config.handshakes_limit:
                _, oldest = self._strangers.popitem(last=False)
                oldest.close(RemoteError("too many connections that prove nothing", Reason.FULL))

    def proven(self, link: MeshProtocol) -> bool:
        """The peer has proven who it is; False, and it is closed, if there is no room for it."""
        self._strangers.pop(link.number, None)
        taken = sum(other.phase is Phase.OPEN or other.is_patient for other in self._links.values())
        if taken <= self._config.links_limit:
            return True
        late = next((other for other in self._links.values() if other.gives_way), None)
        if late is not None:
            late.cut()
            return True
        link.close(RemoteError("this node has no room for another link", Reason.FULL))
        return False

    def up(self, link: MeshProtocol, node_id: bytes) -> bool:
        """It is the one with *node_id* in the routing table now; whether there was none."""
        is_new = node_id not in self._table
        self._table[node_id] = link
        return is_new

    def down(self, number: int) -> tuple[bytes, MeshProtocol] | None:
        """It is in the routing table no more; the id and the link, if it was."""
        for node_id, link in self._table.items():
            if link.number == number:
                del self._table[node_id]
                return node_id, link
        return None

    def closing(self, link: MeshProtocol) -> None:
        """It will prove nothing any more."""
        self._strangers.pop(link.number, None)

    def lost(self, link: MeshProtocol) -> bool:
        """It is gone; whether that was waited for."""
        return self._links.pop(link.number, None) is not None

    def tell_if_gone(self) -> None:
        """Fire :meth:`all_gone`, once all that follows from the loss of the last one is done."""
        if not self._links:
            self._idle.happened(None)

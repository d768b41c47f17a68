"""The other members, as the application sees them.

Contract: the table holds the others of the roster as values.  A value is made anew when the core says that
it has changed, so that reading the table costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_mesh.core.events import MemberChanged, MemberGone, NewRun
from twisted_mesh.identity import id_of
from twisted_mesh.message import Member
from twisted_mesh.wire.membership import Role

GONE: Final = "gone"  #: the state of a member that the roster has forgotten


class Members:
    """The others of the roster, guests not among them.

    :ivar table: by id, read-only and live.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        publish: Callable[[Member], None],
    ) -> None:
        """
        :param wall_clock: seconds since 1970.
        :param publish: is told of each member that is new, or has changed.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._publish = publish
        self._table: dict[bytes, Member] = {}
        self._origins: dict[bytes, bytes] = {}  # of those in the table, by id
        self.table: Mapping[bytes, Member] = MappingProxyType(self._table)

    def changed(self, changed: MemberChanged) -> None:
        """More is known of a member; one that has become a guest is shown no more."""
        presence = changed.presence
        if presence.role == Role.GUEST:
            self._forget(changed.origin)
            return
        node_id = id_of(changed.origin)
        self._origins[node_id] = changed.origin
        member = self._table[node_id] = Member(
            node_id,
            presence.label,
            dict(presence.tags),
            presence.address,
            "member",
            changed.state,
            self._wall_clock() - (self._clock.seconds() - changed.since),
            presence.epoch,
        )
        self._publish(member)

    def gone(self, gone: MemberGone) -> None:
        """The roster has forgotten a member."""
        self._forget(gone.origin)

    def new_run(self, _: NewRun) -> None:
        """A new run has begun, in which nothing is known of anybody."""
        for origin in list(self._origins.values()):
            self._forget(origin)

    def _forget(self, origin: bytes) -> None:
        node_id = id_of(origin)
        self._origins.pop(node_id, None)
        known = self._table.pop(node_id, None)
        if known is not None:
            self._publish(msgspec.structs.replace(known, state=GONE, since=self._wall_clock()))

    def origin(self, node_id: bytes) -> bytes | None:
        """The public key of the member with that id, if it is known."""
        return self._origins.get(node_id)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"members": len(self._table)}

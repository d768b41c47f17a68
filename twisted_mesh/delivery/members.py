"""The other members, as the application sees them.

Contract: the table holds the other members of the roster, the list of all members, as values.  If the core
reports that a member has changed, a new value replaces the old one.  So the table can be read at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_mesh.core.events import MemberChanged, MemberGone, NewRun
from twisted_mesh.errors import WrongValue
from twisted_mesh.identity import id_of
from twisted_mesh.message import Member
from twisted_mesh.wire.membership import Role

UP: Final = "up"
SUSPECT: Final = "suspect"
GONE: Final = "gone"  #: the state of a member that the roster has forgotten


class Members:
    """The other members of the roster, without guests.

    :ivar table: by id, read-only and live; :ivar origins: the public keys of these members.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        publish: Callable[[Member], None],
        established_after: float,
    ) -> None:
        """
        :param publish: is called with each member that is new or has changed.
        :param established_after: seconds in a row that a member must be up to be established.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._publish = publish
        self._table: dict[bytes, Member] = {}
        self._established_after = established_after
        self._origins: dict[bytes, bytes] = {}
        # Since when each member is up.  An established member that is down keeps the time of before.
        self._up_since: dict[bytes, float] = {}
        self.table: Mapping[bytes, Member] = MappingProxyType(self._table)
        self.origins: Mapping[bytes, bytes] = MappingProxyType(self._origins)

    def changed(self, changed: MemberChanged) -> None:
        """Put the new value of a member into the table, or remove a member that has become a guest."""
        presence = changed.presence
        if presence.role == Role.GUEST:
            self.gone(MemberGone(changed.origin))
            return
        node_id = id_of(changed.origin)
        self._origins[node_id] = changed.origin
        if changed.state == UP:
            self._up_since.setdefault(node_id, changed.since)
        elif not self.is_established(node_id):
            self._up_since.pop(node_id, None)
        member = self._table[node_id] = Member(
            node_id,
            presence.label,
            presence.tags,
            presence.address,
            "member",
            changed.state,
            self._wall_clock() - (self._clock.seconds() - changed.since),
            presence.epoch,
        )
        self._publish(member)

    def gone(self, gone: MemberGone) -> None:
        """Remove a member that the roster has forgotten."""
        node_id = id_of(gone.origin)
        self._origins.pop(node_id, None)
        self._up_since.pop(node_id, None)
        if (known := self._table.pop(node_id, None)) is not None:
            self._tell_gone(known)

    def new_run(self, _: NewRun) -> None:
        """Remove all members: a new run of the core has begun, whose roster is empty."""
        gone = list(self._table.values())
        self._table.clear()
        self._origins.clear()
        self._up_since.clear()
        for member in gone:
            self._tell_gone(member)

    def _tell_gone(self, member: Member) -> None:
        self._publish(msgspec.structs.replace(member, state=GONE, since=self._wall_clock()))

    @property
    def up(self) -> list[bytes]:
        """The origins of the members that are up."""
        return [self._origins[node_id] for node_id, member in self.table.items() if member.state == UP]

    def label(self, node_id: bytes) -> str | None:
        """The label of the member with that id; None if it has none, or there is no such member."""
        member = self._table.get(node_id)
        return None if member is None else member.label

    def to_forget(self, node_id: bytes) -> bytes:
        """The public key of the member with that id, which is to be forgotten.

        :raises WrongValue: there is no such member, or it is not gone.
        """
        name = node_id.decode("ascii", "replace")
        if (member := self._table.get(node_id)) is None:
            raise WrongValue(f"{name}: no member with that id is known here")
        if member.state in (UP, SUSPECT):
            raise WrongValue(f"{name} is {member.state}: forget members that are down or have left")
        return self._origins[node_id]

    def is_established(self, node_id: bytes) -> bool:
        """Whether the member was up for ``established_after`` seconds in a row, until now or earlier."""
        since = self._up_since.get(node_id)
        return since is not None and self._clock.seconds() - since >= self._established_after

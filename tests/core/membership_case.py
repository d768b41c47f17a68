"""The case that the tests of membership share."""

from __future__ import annotations

from collections.abc import Iterable

from tests.core.network import of, origin_of, presence, roster
from tests.core.node_case import NAMES, NodeTestCase
from twisted_mesh.core.events import Effect, MemberChanged, MemberGone
from twisted_mesh.core.membership.roster import Author, State
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import Presence, Roster, Suspect
from twisted_mesh.wire.signed import SignedRecord


class MembershipTestCase(NodeTestCase):
    """A node "me", the records it sends, and its roster."""

    tells_roster = False

    def star(self, *names: str, **limits: float) -> None:
        """Begin anew with *limits* and links 1, 2, ... to *names*, which have told all that they know."""
        self.make(**limits)
        for number, name in enumerate(names, 1):
            self.up(number, name)
            self.receive(number, roster())
            self.accept(number)

    def members(self, *names: str, counter: int = 1, **limits: float) -> None:
        """Begin anew as :meth:`star` does; each of *names* has told its record with that *counter*."""
        self.star(*names, **limits)
        for number, name in enumerate(names, 1):
            self.receive(number, presence(name, counter))

    def presences(self, effects: list[Effect], number: int) -> list[tuple[str, int, int]]:
        """The presences that are sent over a link: author, counter and sequence of each."""
        return [
            (NAMES[record.origin], record.counter, record.sequence)
            for record in self._records(effects, number)
            if isinstance(record, Presence)
        ]

    def suspicions(self, effects: list[Effect], number: int) -> list[tuple[str, str, int]]:
        """The suspicions that are sent over a link: accuser, member, and counter of the member's record."""
        return [
            (NAMES[record.accuser], NAMES[record.member], record.counter)
            for record in self._records(effects, number)
            if isinstance(record, Suspect)
        ]

    def _records(self, effects: list[Effect], number: int) -> Iterable[Presence | Suspect]:
        return [frame.record for frame in of(self.all_frames(effects, number), SignedRecord)]

    def told(self, effects: list[Effect], number: int) -> dict[str, tuple[int, int]]:
        """The members in the rosters that are sent over a link, each with its counter and age in ms."""
        told = {}
        for entry in (entry for frame in self.rosters(effects, number) for entry in frame.entries):
            signed = codec.decode(entry.frame)
            assert isinstance(signed, SignedRecord) and isinstance(signed.record, Presence)
            told[NAMES[signed.record.origin]] = signed.record.counter, entry.age
        return told

    def rosters(self, effects: list[Effect], number: int) -> list[Roster]:
        """The rosters that are sent over a link."""
        return of(self.all_frames(effects, number), Roster)

    def changed(self, effects: list[Effect]) -> list[str]:
        """The members that the application is told of as new or different."""
        return [NAMES[one.origin] for one in of(effects, MemberChanged)]

    def gone(self, effects: list[Effect]) -> list[str]:
        """The members that the application is told of as forgotten."""
        return [NAMES[one.origin] for one in of(effects, MemberGone)]

    def entry(self, name: str) -> Author:
        """The roster's entry of *name*, which is known."""
        entry = self.node.roster.get(origin_of(name))
        assert entry is not None
        return entry

    def state(self, name: str) -> State | None:
        """The state of *name*; None if the node does not know it."""
        entry = self.node.roster.get(origin_of(name))
        return None if entry is None else entry.state

    def count(self, name: str) -> int:
        """How many frames the node has ignored or refused so far, as it counts them under *name*."""
        return self.node.counts[name]

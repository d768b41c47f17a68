"""The roster: every author whose PRESENCE has come, and whether it is still up.

Contract: this holds tables only; records were verified before.  Of each author the newest PRESENCE is kept,
by (epoch, counter), and the time when it came.  An author is *down* after silence for ``presence_missed``
of its own intervals, or after a suspicion that is not refuted.  That decides only which state is shown,
which authors are drawn for an exchange, and when an ephemeral one is forgotten.  Guests are kept, too, but
are no members.

The roster has at most ``members_limit`` authors.  If it is full, the author that is gone longest makes room
for a new one; if all are up, the new one is not kept, and can come again with its next PRESENCE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import MemberChanged
from twisted_mesh.wire.membership import Contact, Presence, PresenceFlags, Role
from twisted_mesh.wire.signed import SignedRecord

_SPARED: Final = 5.0  # seconds for which suspects are not given up while a line is slow (guess)
_OVERDUE: Final = 1.25  # intervals of silence after which another route to an author is tried (guess)

Rank = tuple[int, int]  # epoch, counter: the higher is the newer


class State(Enum):
    """The state of a member."""

    UP = "up"
    SUSPECT = "suspect"  #: a neighbour has lost it, and no record came since
    DOWN = "down"  #: no record came for too long
    LEFT = "left"  #: its last record says that it leaves


@dataclass(eq=False, slots=True)
class Entry:
    """One author, by its newest record.

    :ivar signed: its newest PRESENCE as it came; :ivar presence: the same, unpacked.
    :ivar contact: its address in that, if believed.
    :ivar heard: when that came; :ivar since: since when the author is in its :ivar:`state`.
    :ivar accused: when it last accused another.
    :ivar warned: its rank when a suspicion that did not count here was passed on to it.
    :ivar sought: how often it was silent for so long that another route to it was tried.
    :ivar at_join: its epoch and sequence when this node joined, if it was on the roster then.
    """

    signed: SignedRecord
    presence: Presence
    contact: Contact | None
    heard: float
    since: float
    state: State = State.UP
    sought: int = 0
    accused: float = -inf
    warned: Rank = (0, 0)
    at_join: tuple[int, int] | None = None

    def renew(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float
    ) -> None:
        """Keep a newer record."""
        self.signed = signed
        self.presence = presence
        self.contact = contact
        self.heard = heard
        self.sought = 0

    @property
    def rank(self) -> Rank:
        """The rank of its newest record."""
        return self.presence.epoch, self.presence.counter

    @property
    def is_member(self) -> bool:
        """Whether it is shown as a member, and counts for receipts."""
        return self.presence.role != Role.GUEST

    def changed(self) -> MemberChanged:
        """The event that reports its state."""
        return MemberChanged(self.presence, self.state.value, self.since)

    @property
    def is_there(self) -> bool:
        """Whether it is up as far as this node knows, suspected or not."""
        return self.state in (State.UP, State.SUSPECT)

    @property
    def has_ended(self) -> bool:
        """Whether it has left with a key of one process, so that it will hardly come back."""
        return self.state is State.LEFT and bool(self.presence.flags & PresenceFlags.EPHEMERAL)

    @property
    def interval(self) -> float:
        """Seconds until its next record is due."""
        return self.presence.interval / 1000

    def says_the_same(self, presence: Presence) -> bool:
        """Whether *presence* would show the application nothing new."""
        return _shown(self.presence) == _shown(presence)


def _shown(presence: Presence) -> tuple[object, ...]:
    return presence.epoch, presence.address, presence.role, presence.label, presence.tags


@dataclass(eq=False)
class Roster:
    """All authors except this node."""

    _config: MeshConfig
    _entries: dict[bytes, Entry] = field(default_factory=dict)
    _displaced: list[Entry] = field(default_factory=list)  # forgotten since the last tick
    _suspects: dict[bytes, Entry] = field(default_factory=dict)  # the authors in that state, which are few

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, origin: object) -> bool:
        return origin in self._entries

    def get(self, origin: bytes) -> Entry | None:
        """The entry of *origin*."""
        return self._entries.get(origin)

    def rank(self, origin: bytes) -> Rank:
        """The rank of the newest record of *origin*; (0, 0) if there is none."""
        entry = self._entries.get(origin)
        return (0, 0) if entry is None else entry.rank

    def is_there(self, origin: bytes) -> bool:
        """Whether *origin* is up as far as this node knows."""
        entry = self._entries.get(origin)
        return entry is not None and entry.is_there

    @property
    def there(self) -> int:
        """How many authors are up."""
        return sum(entry.is_there for entry in self._entries.values())

    def take(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> bool | None:
        """Keep a verified record that is newer than the known one.

        :param heard: when it came to the node that told of it; a later time known here is kept.
        :return: whether the record shows anything new; None if there is no room for its author.
        """
        entry = self._entries.get(presence.origin)
        is_news = entry is None or not entry.says_the_same(presence)
        over = min(now, heard + self._patience(presence))  # when it was gone, if it is
        heard = heard if entry is None else max(heard, entry.heard)
        if entry is None:
            if len(self._entries) >= self._config.members_limit and not self._make_room():
                return None
            entry = self._entries[presence.origin] = Entry(signed, presence, contact, heard, now)
        else:
            entry.renew(signed, presence, contact, heard)
        state = State.UP
        if presence.flags & PresenceFlags.LEAVING:
            state = State.LEFT
        elif heard + self._patience(presence) <= now:
            state = State.DOWN
        return self._enter(entry, state, now if state is State.UP else over) or is_news

    def is_forgotten(self, presence: Presence, heard: float, now: float) -> bool:
        """Whether its author is not on the roster, and would be forgotten by now if it had been.

        Else two nodes would tell each other for ever of authors that they have forgotten.
        """
        over = heard + self._patience(presence)
        return presence.origin not in self._entries and over + self._memory(presence) <= now

    def suspect(self, entry: Entry, now: float) -> None:
        """Suspect an author: unless another record comes, it is down after ``suspect_patience`` seconds."""
        self._enter(entry, State.SUSPECT, now)

    def tick(self, now: float) -> tuple[list[Entry], list[Entry]]:
        """Update the states: the authors whose state changed, and those that were forgotten."""
        changed: list[Entry] = []
        gone = [entry for entry in self._displaced if not self._is_shown(entry.presence.origin)]
        self._displaced = []
        for entry in list(self._entries.values()):
            if entry.is_there:
                over = entry.heard + self._patience(entry.presence)
                if entry.state is State.SUSPECT:
                    over = min(over, entry.since + self._config.suspect_patience)
                if over <= now:
                    self._enter(entry, State.DOWN, over)
                    changed.append(entry)
            elif entry.since + self._memory(entry.presence) <= now:
                del self._entries[entry.presence.origin]
                gone.append(entry)
        return changed, gone

    @property
    def suspected_until(self) -> float | None:
        """When the first suspected author will be down; None if none is suspected."""
        # This is asked for with every record, so it must not look through all of the roster.
        first = min((entry.since for entry in self._suspects.values()), default=None)
        return None if first is None else first + self._config.suspect_patience

    def wait_for_suspects(self, now: float) -> None:
        """Let no suspicion make an author down now; one whose record is overdue is down all the same."""
        for entry in self._suspects.values():
            entry.since = max(entry.since, now + _SPARED - self._config.suspect_patience)

    def silent(self, now: float) -> list[Entry]:
        """Authors whose record is overdue, each now and then: their records may have lost their route."""
        overdue = [
            entry
            for entry in self._entries.values()
            if entry.is_there and entry.heard + (_OVERDUE + entry.sought / 2) * entry.interval <= now
        ]
        for entry in overdue:
            entry.sought += 1
        return overdue

    def doubt(self, late: float) -> None:
        """Count no silence for the *late* seconds in which this node itself was held up."""
        for entry in self._entries.values():
            if entry.is_there:
                entry.heard += late
                if entry.state is State.SUSPECT:
                    entry.since += late

    def age(self, entry: Entry, now: float) -> float:
        """Seconds since its record came; if it is gone, a silence that lasts since it went.

        So a node that is told of it remembers it as long as this node does, and no longer.
        """
        if entry.is_there:
            return max(0.0, now - entry.heard)
        return self._patience(entry.presence) + now - entry.since

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"roster": len(self._entries)}

    def _enter(self, entry: Entry, state: State, now: float) -> bool:
        """Set the state; whether it was another."""
        if entry.state is state:
            return False
        entry.state, entry.since = state, now
        if state is State.SUSPECT:
            self._suspects[entry.presence.origin] = entry
        else:
            self._suspects.pop(entry.presence.origin, None)
        return True

    def _is_shown(self, origin: bytes) -> bool:
        """Whether it is a member here: a member that made room can be back as a guest."""
        entry = self._entries.get(origin)
        return entry is not None and entry.is_member

    def _patience(self, presence: Presence) -> float:
        return self._config.presence_missed * presence.interval / 1000

    def _memory(self, presence: Presence) -> float:
        is_ephemeral = presence.flags & PresenceFlags.EPHEMERAL or presence.role == Role.GUEST
        return self._config.ephemeral_memory if is_ephemeral else self._config.member_memory

    def _make_room(self) -> bool:
        """Forget the author gone longest, ephemeral ones and guests first; False if all are up."""
        if not (gone := [entry for entry in self._entries.values() if not entry.is_there]):
            return False
        leaves = min(gone, key=lambda entry: (self._memory(entry.presence), entry.since))
        del self._entries[leaves.presence.origin]
        self._displaced.append(leaves)
        return True

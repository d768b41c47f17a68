"""The roster: every author that has said of itself that it is there, and whether it still is.

Contract: tables alone; what is taken here was verified before.  Of each author the newest PRESENCE is
kept, by (epoch, counter), and when it came.  Silence for ``presence_missed`` of its own intervals, or a
suspicion that is not refuted, makes it *down*: that decides nothing but what is shown, who is drawn for
an exchange, and when an ephemeral one is forgotten.  Guests are kept here, too, and are no members.

What is bounded: ``members_limit`` authors.  For one more, whoever is gone longest makes room; where all
are up the newcomer is not taken, and comes again with its next PRESENCE.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import MemberChanged
from twisted_mesh.wire.membership import Contact, Presence, PresenceFlags, Role
from twisted_mesh.wire.signed import SignedRecord

_SPARED: Final = 5.0  # seconds for which suspects are not given up while a line is slow (guess)
_OVERDUE: Final = 1.25  # intervals of silence after which another way to an author is tried (guess)

Rank = tuple[int, int]  # epoch, counter: the higher is the newer


class State(Enum):
    """Whether a member is there."""

    UP = "up"
    SUSPECT = "suspect"  #: a neighbour lost its link to it, and it has not spoken since
    DOWN = "down"  #: it was not heard of for too long
    LEFT = "left"  #: it said that it stops


class Entry:
    """One author as it was last heard of.

    :ivar signed: its newest PRESENCE, as it came; :ivar presence: what that says.
    :ivar contact: where it can be dialled, if that is believed.
    :ivar heard: when that came; :ivar since: since when it is in its :ivar:`state`.
    :ivar accused: when it last accused somebody.
    :ivar warned: its rank when a suspicion that did not count here was passed on to it.
    :ivar sought: how often its silence was noticed, and another way to it tried.
    :ivar at_join: its epoch and sequence when this node joined, if it knew of it then.
    """

    __slots__ = (
        "accused",
        "at_join",
        "contact",
        "heard",
        "presence",
        "signed",
        "since",
        "sought",
        "state",
        "warned",
    )

    def __init__(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> None:
        self.state = State.UP
        self.since = now
        self.accused = float("-inf")
        self.warned: Rank = (0, 0)
        self.at_join: tuple[int, int] | None = None
        self.renew(signed, presence, contact, heard)

    def renew(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float
    ) -> None:
        """A newer record of it came."""
        self.signed = signed
        self.presence = presence
        self.contact = contact
        self.heard = heard
        self.sought = 0

    @property
    def rank(self) -> Rank:
        """Of its newest record."""
        return self.presence.epoch, self.presence.counter

    @property
    def is_member(self) -> bool:
        """Whether it is shown, and counts for receipts."""
        return self.presence.role != Role.GUEST

    def changed(self) -> MemberChanged:
        """What is to be told of it."""
        return MemberChanged(self.presence, self.state.value, self.since)

    @property
    def is_there(self) -> bool:
        """Whether it is up as far as this node knows, suspected or not."""
        return self.state in (State.UP, State.SUSPECT)

    @property
    def has_ended(self) -> bool:
        """Whether it has left, with a key made for one process: it will hardly be seen again."""
        return self.state is State.LEFT and bool(self.presence.flags & PresenceFlags.EPHEMERAL)

    @property
    def interval(self) -> float:
        """Seconds until its next record is due."""
        return self.presence.interval / 1000

    def says_the_same(self, presence: Presence) -> bool:
        """Whether *presence* shows nothing new to who looks at the roster."""
        mine = self.presence
        return (mine.epoch, mine.address, mine.role, mine.label, mine.tags) == (
            presence.epoch,
            presence.address,
            presence.role,
            presence.label,
            presence.tags,
        )


class Roster:
    """All authors but this node."""

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._entries: dict[bytes, Entry] = {}
        self._displaced: list[Entry] = []  # forgotten since the last tick
        self._suspects: dict[bytes, Entry] = {}  # those in that state, of which there are few

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, origin: object) -> bool:
        return origin in self._entries

    def get(self, origin: bytes) -> Entry | None:
        """What is known of *origin*."""
        return self._entries.get(origin)

    def rank(self, origin: bytes) -> Rank:
        """Of the newest record of *origin*; (0, 0) where there is none."""
        entry = self._entries.get(origin)
        return (0, 0) if entry is None else entry.rank

    def is_there(self, origin: bytes) -> bool:
        """Whether *origin* is up as far as this node knows."""
        entry = self._entries.get(origin)
        return entry is not None and entry.is_there

    @property
    def there(self) -> int:
        """How many are up."""
        return sum(entry.is_there for entry in self._entries.values())

    def take(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> bool | None:
        """Keep a verified record that is newer than what is known.

        :param heard: when it came, to whoever told of it; who was heard of here since was there then.
        :return: whether it shows anything new; None where there is no room for its author.
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
        """Whether its author is not known here, and would be forgotten already if it were.

        Else two nodes would learn for ever from each other of whom they have forgotten.
        """
        over = heard + self._patience(presence)
        return presence.origin not in self._entries and over + self._memory(presence) <= now

    def suspect(self, entry: Entry, now: float) -> None:
        """It may be gone: unless it says a word it is down after ``suspect_patience``."""
        self._enter(entry, State.SUSPECT, now)

    def tick(self, now: float) -> tuple[list[Entry], list[Entry]]:
        """Let time do its work: those in another state now, and those that were forgotten."""
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
        """When the first of those that are suspected is given up, or None if none is."""
        # Asked for with every record, so it must not look through all of the roster.
        first = min((entry.since for entry in self._suspects.values()), default=None)
        return None if first is None else first + self._config.suspect_patience

    def wait_for_suspects(self, now: float) -> None:
        """Give nobody up for a suspicion now; whose record is overdue is down all the same."""
        for entry in self._suspects.values():
            entry.since = max(entry.since, now + _SPARED - self._config.suspect_patience)

    def silent(self, now: float) -> list[Entry]:
        """Those whose record is overdue, now and then: what comes from them may have lost its way."""
        overdue = [
            entry
            for entry in self._entries.values()
            if entry.is_there and entry.heard + (_OVERDUE + entry.sought / 2) * entry.interval <= now
        ]
        for entry in overdue:
            entry.sought += 1
        return overdue

    def doubt(self, late: float) -> None:
        """This node itself was held up by *late* seconds: nobody was silent then."""
        for entry in self._entries.values():
            if entry.is_there:
                entry.heard += late
                if entry.state is State.SUSPECT:
                    entry.since += late

    def age(self, entry: Entry, now: float) -> float:
        """Seconds since it was heard of; of who is gone, as if by its silence since it went.

        So who is told of it remembers it as long as this node does, and no longer.
        """
        if entry.is_there:
            return max(0.0, now - entry.heard)
        return self._patience(entry.presence) + now - entry.since

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"roster": len(self._entries)}

    def _enter(self, entry: Entry, state: State, now: float) -> bool:
        """Whether it was in another state."""
        if entry.state is state:
            return False
        entry.state, entry.since = state, now
        if state is State.SUSPECT:
            self._suspects[entry.presence.origin] = entry
        else:
            self._suspects.pop(entry.presence.origin, None)
        return True

    def _is_shown(self, origin: bytes) -> bool:
        """Whether it is a member here; who made room as one can be back as a guest."""
        entry = self._entries.get(origin)
        return entry is not None and entry.is_member

    def _patience(self, presence: Presence) -> float:
        return self._config.presence_missed * presence.interval / 1000

    def _memory(self, presence: Presence) -> float:
        is_ephemeral = presence.flags & PresenceFlags.EPHEMERAL or presence.role == Role.GUEST
        return self._config.ephemeral_memory if is_ephemeral else self._config.member_memory

    def _make_room(self) -> bool:
        """Forget who is gone longest, ephemeral ones and guests first; False if all are there."""
        gone = [entry for entry in self._entries.values() if not entry.is_there]
        if not gone:
            return False
        leaves = min(gone, key=lambda entry: (self._memory(entry.presence), entry.since))
        del self._entries[leaves.presence.origin]
        self._displaced.append(leaves)
        return True

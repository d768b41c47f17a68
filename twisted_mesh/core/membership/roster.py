"""The roster: all authors whose PRESENCE has come, and whether they are still up.

Contract: the roster only keeps tables; the caller verifies records.  It keeps the newest PRESENCE of each
author, by (epoch, counter), and the time when that came.  An author is *down* after silence for
``presence_missed`` of its own intervals, or after a suspicion that is not refuted.  Whether it is down
decides only which state the application sees, which authors are drawn for an exchange, and when an author
is forgotten.  Guests are authors, but no members.

A member that is gone can be *forgotten* at once, on the word of another member.  It comes back with its
next record.  Until then, and for ``member_memory`` at most, the roster remembers which record was its
newest, and takes neither that nor an older one.

The roster has at most ``members_limit`` authors, and remembers as many forgotten ones.  If it is full, an
author makes room for a new one: an author that is gone, or else one that is new itself and has been silent
for too long.  An author that was up for ``established_after`` makes room for none until it has been gone
for longer than it was up.  If none makes room, the new one is not kept, and can come again with its next
PRESENCE.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import MemberChanged
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.wire.membership import Contact, Presence, PresenceFlags, Role
from twisted_mesh.wire.signed import SignedRecord

SPOKE_AGAIN: Final = 2.5  # seconds from the first record to one that shows that its author stays (guess)
HEARSAY: Final = 300.0  # seconds for which a gone member is kept after another roster named it (guess)
_SPARED: Final = 5.0  # seconds more that suspects get while a line is slow (guess)
#: Intervals of a full mesh for which a new author may be silent (guess: after _OVERDUE another route to it
#: is tried, and its next record comes over that).
_SILENT: Final = 2.0
_OVERDUE: Final = 1.25  # intervals of silence after which another route to an author is tried (guess)

Rank = tuple[int, int]  # epoch, counter: the higher is of the newer record


class State(Enum):
    """The state of a member."""

    UP = "up"
    SUSPECT = "suspect"  #: a neighbour has lost it, and no record came since
    DOWN = "down"  #: no record came for too long
    LEFT = "left"  #: its last record says that it leaves


_THERE: Final = (State.UP, State.SUSPECT)


@dataclass(eq=False, slots=True)
class Author:
    """One author, by its newest record; *it* is the author below.

    :ivar sought: how often another route to it was tried because its next record was overdue.
    """

    signed: SignedRecord  # its newest PRESENCE as it came
    presence: Presence  # the same, unpacked
    contact: Contact | None  # the address in that record; None if there is none or it is not believed
    heard: float  # when that record came
    since: float  # when the author entered its state
    met: float  # when its first record came here
    there_since: float  # when it was last gone, or met
    state: State = State.UP
    sought: int = 0
    accused: float = -inf  # when it last accused another author
    warned: Rank = (0, 0)  # its rank at the last suspicion that only passed through here
    spoke_again: bool = False  # whether another record came SPOKE_AGAIN after *met*
    lists: bytes = b""  # names its lists and this node's, if they differ and that was reported
    told: float = -inf  # when another roster last named the record of this author, which is gone
    forgets: RateLimit | None = None  # how often it may have others forgotten; None if it never did
    came: float = field(init=False)  # when its newest record came here; *heard* is earlier by a told age

    def __post_init__(self) -> None:
        self.came = self.met

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

    @property
    def is_told(self) -> bool:
        """Whether ROSTERs have its record: if it is gone, only if this node heard it itself."""
        return self.is_member and (self.is_there or self.spoke_again)

    def changed(self) -> MemberChanged:
        """The event that reports its state."""
        return MemberChanged(self.presence, self.state.value, self.since)

    @property
    def is_there(self) -> bool:
        """Whether it is up or suspected, as far as this node knows."""
        return self.state in _THERE

    @property
    def shown_for(self) -> float:
        """For how many seconds its records show that it was there without a break."""
        return self.heard - self.there_since

    @property
    def has_ended(self) -> bool:
        """Whether it has left, and its key was made for one run, so that it will hardly come back."""
        return self.state is State.LEFT and bool(self.presence.flags & PresenceFlags.EPHEMERAL)

    @property
    def interval(self) -> float:
        """Seconds until its next record is due."""
        return self.presence.interval / 1000

    def is_fresh(self, now: float) -> bool:
        """Whether its next record is not due yet."""
        return self.heard + self.interval > now

    def says_the_same(self, presence: Presence) -> bool:
        """Whether *presence* would show the application nothing new."""
        return _shown(self.presence) == _shown(presence)


class Forgotten(NamedTuple):
    """A member that was forgotten.

    :ivar rank: of its newest record; :ivar signed: the FORGET.
    :ivar until: when the roster remembers this no more.
    """

    rank: Rank
    signed: SignedRecord
    until: float


def _is_passing(presence: Presence) -> bool:
    return bool(presence.flags & PresenceFlags.EPHEMERAL) or presence.role == Role.GUEST


def _shown(presence: Presence) -> tuple[object, ...]:
    return presence.epoch, presence.address, presence.role, presence.label, presence.tags


@dataclass(eq=False)
class Roster:
    """All authors except this node."""

    _config: MeshConfig
    _authors: dict[bytes, Author] = field(default_factory=dict)
    _displaced: list[Author] = field(default_factory=list)  # forgotten since the last tick
    _suspects: dict[bytes, Author] = field(default_factory=dict)  # the suspected ones: they are few
    _forgotten: OrderedDict[bytes, Forgotten] = field(default_factory=OrderedDict)  # the longest first
    _room_at: float = -inf  # no author makes room before this time

    def __post_init__(self) -> None:
        config = self._config
        longest = max(config.presence_interval, config.members_limit / config.presence_rate)
        self._silence = _SILENT * longest

    def __iter__(self) -> Iterator[Author]:
        return iter(self._authors.values())

    def __len__(self) -> int:
        return len(self._authors)

    def __contains__(self, origin: object) -> bool:
        return origin in self._authors

    def get(self, origin: bytes) -> Author | None:
        """The author with that origin."""
        return self._authors.get(origin)

    def rank(self, origin: bytes) -> Rank:
        """The rank of the newest record of *origin*, also if it is forgotten; (0, 0) if there is none."""
        if (author := self._authors.get(origin)) is not None:
            return author.rank
        forgotten = self._forgotten.get(origin)
        return (0, 0) if forgotten is None else forgotten.rank

    def is_there(self, origin: bytes) -> bool:
        """Whether *origin* is up as far as this node knows."""
        author = self._authors.get(origin)
        return author is not None and author.is_there

    @property
    def there(self) -> int:
        """How many authors are up."""
        return sum(author.is_there for author in self._authors.values())

    def keep(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> bool | None:
        """Keep a verified record that is newer than the known one.

        :param heard: when the record came to the node that sent it here; the later of known times is kept.
        :return: whether the record shows anything new; None if there is no room for its author.
        """
        author = self._authors.get(presence.origin)
        is_news = author is None or not author.says_the_same(presence)
        heard = heard if author is None else max(heard, author.heard)
        over = min(now, heard + self._patience(presence))  # since when the author is gone, if it is
        if author is None:
            if len(self._authors) >= self._config.members_limit and not self._make_room(now):
                return None
            author = self._authors[presence.origin] = Author(
                signed, presence, contact, heard, now, now, now
            )
            self._room_at = min(self._room_at, heard + self._silence)
            self._forgotten.pop(presence.origin, None)
        else:
            author.renew(signed, presence, contact, heard)
            author.came = now
            author.spoke_again |= now >= author.met + SPOKE_AGAIN
        state = State.UP
        if presence.flags & PresenceFlags.LEAVING:
            state = State.LEFT
        elif heard + self._patience(presence) <= now:
            state = State.DOWN
        changed = self._enter(author, state, now if state is State.UP else over)
        if state is State.DOWN:
            author.since = over  # it was perhaps down before, because it was suspected
        return changed or is_news

    def told(self, presence: Presence, now: float) -> None:
        """Take in that another node's roster has the newest record known here."""
        author = self._authors.get(presence.origin)
        if author is not None and not author.is_there and author.rank == (presence.epoch, presence.counter):
            author.told = now

    def told_younger(self, presence: Presence, heard: float, now: float) -> Author | None:
        """Take in that another node had the newest record known here at *heard*.

        Whoever told this node an age first may have lied.  So may this one: the record counts as heard
        when it came here, at the latest.  So it shows nobody as up that has been silent since.

        :return: the author, if only now it is up, or its record is fresh.
        """
        author = self._authors.get(presence.origin)
        if author is None or author.rank != (presence.epoch, presence.counter):
            return None
        heard = max(author.heard, min(heard, author.came))
        was_there, was_fresh = author.is_there, author.is_fresh(now)
        if not was_there:
            if not self._is_down_by_silence(author) or heard + self._patience(author.presence) <= now:
                return None
            self._enter(author, State.UP, now)
        author.heard = heard
        return author if not was_there or (author.is_fresh(now) and not was_fresh) else None

    def is_down_by_age(self, author: Author, now: float) -> bool:
        """Whether an author is down only by the age that another node told of its newest record.

        This node has not waited yet for the next record, for as long as for that of others.
        """
        return self._is_down_by_silence(author) and author.came + self._patience(author.presence) > now

    def is_forgotten(self, presence: Presence, heard: float, now: float) -> bool:
        """Whether the author of *presence* is not on the roster, and would have been forgotten by now.

        Otherwise two nodes would send each other for ever the records of authors that they have forgotten.
        """
        over = heard + self._patience(presence)
        return presence.origin not in self._authors and over + self._memory(presence) <= now

    def suspect(self, author: Author, now: float) -> None:
        """Suspect an author: unless another record comes, it is down after ``suspect_patience`` seconds."""
        self._enter(author, State.SUSPECT, now)

    def forget(self, author: Author, signed: SignedRecord, now: float) -> None:
        """Forget an author that is gone, as the FORGET *signed* asks."""
        self.remove(author)
        until = now + self._config.member_memory
        self._forgotten[author.presence.origin] = Forgotten(author.rank, signed, until)
        if len(self._forgotten) > self._config.members_limit:
            self._forgotten.popitem(last=False)

    def forgotten(self, origin: bytes, rank: Rank) -> SignedRecord | None:
        """The FORGET of the record of *origin* with *rank*, if it is forgotten."""
        forgotten = self._forgotten.get(origin)
        return None if forgotten is None or forgotten.rank != rank else forgotten.signed

    def remove(self, author: Author) -> None:
        """Take an author off the roster."""
        del self._authors[author.presence.origin]
        self._suspects.pop(author.presence.origin, None)

    def tick(self, now: float) -> tuple[list[Author], list[Author]]:
        """Update the states; return the authors whose state changed, and the forgotten ones."""
        changed: list[Author] = []
        gone = [author for author in self._displaced if not self._is_shown(author.presence.origin)]
        self._displaced = []
        while self._forgotten and next(iter(self._forgotten.values())).until <= now:
            self._forgotten.popitem(last=False)
        for author in list(self._authors.values()):
            if author.is_there:
                over = author.heard + self._patience(author.presence)
                if author.state is State.SUSPECT:
                    over = min(over, author.since + self._config.suspect_patience)
                if over <= now:
                    self._enter(author, State.DOWN, over)
                    changed.append(author)
            elif self._kept_until(author) <= now:
                del self._authors[author.presence.origin]
                gone.append(author)
        return changed, gone

    @property
    def suspected_until(self) -> float | None:
        """When the first suspected author will be down; None if none is suspected."""
        # This is asked for with every record, so it must not look through all of the roster.
        first = min((author.since for author in self._suspects.values()), default=None)
        return None if first is None else first + self._config.suspect_patience

    def wait_for_suspects(self, now: float) -> None:
        """Give all suspects more time; an author whose record is overdue is down all the same."""
        for author in self._suspects.values():
            author.since = max(author.since, now + _SPARED - self._config.suspect_patience)

    def silent(self, now: float) -> list[Author]:
        """The authors whose next record is overdue, so that the route to them may be lost.

        Each is returned again after a while, if its record has still not come.
        """
        overdue = [
            author
            for author in self._authors.values()
            if author.is_there and author.heard + (_OVERDUE + author.sought / 2) * author.interval <= now
        ]
        for author in overdue:
            author.sought += 1
        return overdue

    def doubt(self, late: float) -> None:
        """Do not count the last *late* seconds as silence of the authors: this node itself was held up."""
        for author in self._authors.values():
            author.came += late
            if author.is_there:
                author.heard += late
                author.there_since += late
                if author.state is State.SUSPECT:
                    author.since += late

    def age(self, author: Author, now: float) -> float:
        """Seconds since the author's record came; if the author is gone, so many that it counts as gone.

        A node that gets this record and age in a ROSTER forgets the author when this node does.
        """
        if author.is_there:
            return max(0.0, now - author.heard)
        return self._patience(author.presence) + now - author.since

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"roster": len(self._authors), "forgotten_members": len(self._forgotten)}

    def _enter(self, author: Author, state: State, now: float) -> bool:
        """Set the state; return whether it has changed."""
        if author.state is state:
            return False
        was_there = author.is_there
        author.state, author.since = state, now
        if state is State.SUSPECT:
            self._suspects[author.presence.origin] = author
        else:
            self._suspects.pop(author.presence.origin, None)
        if author.is_there != was_there:
            self._room_at = -inf
            if author.is_there:
                author.there_since = now
        return True

    def _is_shown(self, origin: bytes) -> bool:
        """Whether *origin* is a member here: a member that made room can be back as a guest."""
        author = self._authors.get(origin)
        return author is not None and author.is_member

    def _is_down_by_silence(self, author: Author) -> bool:
        """Whether an author is down because its next record was overdue, not because it was suspected."""
        over = author.heard + self._patience(author.presence)
        return author.state is State.DOWN and author.since >= over

    def _patience(self, presence: Presence) -> float:
        return self._config.presence_missed * presence.interval / 1000

    def _memory(self, presence: Presence) -> float:
        return self._config.ephemeral_memory if _is_passing(presence) else self._config.member_memory

    def _kept_until(self, author: Author) -> float:
        """The time at which an author that is gone is forgotten.

        Made-up authors sign one record each.  So an author that spoke once is soon forgotten.  But other
        nodes may have heard it for days before: it is kept as long as their rosters name it.
        """
        until = author.since + self._memory(author.presence)
        if author.spoke_again:
            return until
        return min(until, max(author.since + self._config.ephemeral_memory, author.told + HEARSAY))

    def _make_room(self, now: float) -> bool:
        """Forget an author, so that there is room for a new one; False if none makes room.

        Anybody can make up authors, and honest nodes pass on their records.  So a made-up author differs
        from others only in this: sooner or later nobody sends its records any more.
        """
        if now < self._room_at:  # a flood of new authors asks for room again and again
            return False
        # No method is called for each author: that would take four times as long (measured).
        silence, long = self._silence, self._config.established_after
        silent = [
            one for one in self._authors.values() if one.heard + silence <= now or one.state not in _THERE
        ]
        new = [one for one in silent if one.heard - one.there_since < long]
        leaving = (
            [one for one in new if one.state not in _THERE]
            or new
            or [one for one in silent if not one.is_there and one.heard + one.shown_for <= now]
        )
        if not leaving:
            self._room_at = self._next_room(now)
            return False
        leaves = min(
            leaving, key=lambda one: (one.spoke_again and not _is_passing(one.presence), one.heard)
        )
        self.remove(leaves)
        self._displaced.append(leaves)
        return True

    def _next_room(self, now: float) -> float:
        """No author makes room before this time if the state of none changes."""
        times = (
            one.heard + (self._silence if one.state in _THERE else one.shown_for)
            for one in self._authors.values()
        )
        return min((time for time in times if time > now), default=inf)

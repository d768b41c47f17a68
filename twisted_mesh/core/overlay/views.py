"""The two views of the overlay: the active view has a node's neighbours, the passive view other contacts.

Contract: views count nodes, so two links to one node are one neighbour.  The passive view holds contacts
that other nodes told.  It is bounded, and has each node and each address once.  No source and no *site*
fills more than its share.  A site is a host, or the network of 64 bits of IPv6 hosts: many ids or addresses
in it cost an attacker nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from twisted_mesh.core.link import Link
from twisted_mesh.core.rate import backoff
from twisted_mesh.core.reachability import Place, believed, counted_site, site_of
from twisted_mesh.wire.membership import Contact, Purpose

T = TypeVar("T")
K = TypeVar("K")

FULL_FIRST: Final = 1.0  # seconds until a node without room is dialled again; doubled each time (guess)
FULL_LONGEST: Final = 32.0  # seconds, the longest such wait: a full mesh must not dial all the time (guess)

#: Neighbours that are there only because their overlays wanted it, and of these at one site (guess: nodes
#: whose neighbours have failed may all know this node alone for a moment).
UNSOUGHT_MOST: Final = 20
UNSOUGHT_AT_SITE: Final = 4

MET: Final = b""  #: the source of a contact that this node was linked with itself


class Randomness(Protocol):
    """A source of randomness, such as :class:`random.Random`."""

    def random(self) -> float:
        """A number from 0 up to 1."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of *seq*."""

    def sample(self, population: Sequence[T], /, k: int) -> list[T]:
        """*k* of *population*, each at most once."""


#: Dials a contact for a purpose at the time that is given; returns False if it may not be dialled now.
Dial = Callable[[Contact, Purpose, float], bool]


def jitter(seconds: float, randomness: Randomness) -> float:
    """*seconds*, up to half more or less, so that nodes that began together do not act together."""
    return seconds * (0.5 + randomness.random())


@dataclass(eq=False, slots=True)
class Neighbour:
    """A node with which this one is linked.

    :ivar contact: where others can dial it; None if nobody can, or if no address is believed.
    :ivar links: the links to the node, and whether the frontier has come on each.
    """

    id: bytes
    since: float  # when a frontier first came from the node
    contact: Contact | None = None
    host: str = ""  # the far end of a connection to the node; "" if unknown
    links: dict[Link, bool] = field(default_factory=dict)
    joins: bool = False  # whether it is a newcomer whose walks have not begun yet
    drawn: bool = False  # whether this node chose to dial it, and no other sent it there
    unsought: bool = False  # whether it dialled, and only its own overlay wanted the link
    pinned: bool = False  # whether the application wants the link
    seeks: bool = False  # whether the node is likely to look for more neighbours

    @property
    def up(self) -> bool:
        """Whether a frontier has come on one of the links."""
        return any(self.links.values())

    @property
    def way(self) -> Link:
        """The link for frames to the node: the newest that is up."""
        return max((link for link, up in self.links.items() if up), key=lambda link: link.number)

    @property
    def teller(self) -> bytes:
        """The node's site if it is counted, else its id: addresses that it tells are counted by that."""
        return (counted_site(self.host) or "").encode() or self.id

    def fits(self, contact: Contact) -> bool:
        """Whether this node and the other believe *contact*: each judges by the other's host."""
        return believed(contact.host, self.host)


@dataclass(eq=False)
class ActiveView:
    """The nodes with which this one is linked, by id and by link."""

    _nodes: dict[bytes, Neighbour] = field(default_factory=dict)
    _links: dict[Link, Neighbour] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self._nodes.values())

    def get(self, id: bytes) -> Neighbour | None:
        """The node with that id."""
        return self._nodes.get(id)

    def over(self, link: Link) -> Neighbour | None:
        """The node that *link* leads to."""
        return self._links.get(link)

    def add(self, link: Link, now: float) -> Neighbour:
        """Add the new *link*; return its node."""
        node = self._nodes.setdefault(link.peer.id, Neighbour(link.peer.id, now))
        node.links[link] = False
        node.host = link.host
        self._links[link] = node
        return node

    def remove(self, link: Link) -> Neighbour | None:
        """Remove *link*, and its node with the last link; return the node, or None if *link* is unknown."""
        if (node := self._links.pop(link, None)) is not None:
            del node.links[link]
            if not node.links:
                del self._nodes[node.id]
        return node

    def sites(self) -> set[str]:
        """The sites of all nodes (:func:`~twisted_mesh.core.reachability.site_of`)."""
        return {site_of(node.host) for node in self if node.host}

    def drawn(self) -> list[Neighbour]:
        """The nodes that this node has chosen to dial."""
        return [node for node in self if node.drawn]

    def has_room_for_unsought(self, host: str) -> bool:
        """Whether one more node at *host* may be a neighbour only because it wants to."""
        unsought = [node for node in self if node.unsought]
        site = counted_site(host)
        at_site = sum(site is not None and counted_site(node.host) == site for node in unsought)
        return len(unsought) < UNSOUGHT_MOST and at_site < UNSOUGHT_AT_SITE

    def up(self) -> list[Neighbour]:
        """The nodes whose frontier has come."""
        return [node for node in self if node.up]

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"active_view": len(self._nodes), "active_links": len(self._links)}


@dataclass(eq=False)
class _Candidate:
    """A contact and its source; *own_word*: whether the contact itself has told its address."""

    contact: Contact
    source: bytes
    own_word: bool
    full: int = 0  # refusals in a row for lack of room
    until: float = 0.0  # when it may be dialled again

    def __post_init__(self) -> None:
        self.site = site_of(self.contact.host)


@dataclass(eq=False)
class PassiveView:
    """Contacts that this node could dial, each with the source that told it."""

    _own_id: bytes
    _limit: int
    _active: ActiveView
    _randomness: Randomness
    _entries: dict[bytes, _Candidate] = field(default_factory=dict)
    _places: dict[Place, bytes] = field(default_factory=dict)
    _sources: Counter[bytes] = field(default_factory=Counter)  # contacts by source
    _sites: Counter[str] = field(default_factory=Counter)  # contacts by site

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: bytes) -> bool:
        return id in self._entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def contacts(self) -> list[Contact]:
        """All contacts."""
        return [entry.contact for entry in self._entries.values()]

    def add(
        self, contact: Contact, source: bytes, sent: Collection[bytes] = (), *, own_word: bool = False
    ) -> None:
        """Add *contact*, which *source* told, unless its id or its address is known already.

        With *own_word* it replaces entries with that id or address that others told.  Otherwise somebody
        could tell a made up id for an address, and the node that really is there would never be dialled.

        If the view is full, a contact of the site with the most contacts makes room.  A contact in *sent*
        goes first, since *source* has it now; then a contact of the source that told the most.

        :param sent: the ids that this node sent in exchange.
        :param own_word: whether the contact's node itself signed the address, or was reached there.
        """
        place = (contact.host, contact.port)
        if contact.id == self._own_id or self._active.get(contact.id) is not None:
            return
        ids = {contact.id, self._places.get(place, contact.id)}
        known = [self._entries[id] for id in ids if id in self._entries]
        if known and (not own_word or any(entry.own_word for entry in known)):
            return
        for entry in known:
            if entry.contact == contact:
                entry.own_word = True
                return
            self.remove(entry.contact.id)
        if len(self._entries) >= self._limit:
            self._make_room(site_of(contact.host), source, sent)
        entry = self._entries[contact.id] = _Candidate(contact, source, own_word)
        self._places[place] = contact.id
        self._sources[source] += 1
        self._sites[entry.site] += 1

    def told_by(self, id: bytes) -> bytes | None:
        """The source of a contact that its node has not signed, or that this node was not linked with."""
        entry = self._entries.get(id)
        return None if entry is None or entry.own_word else entry.source

    def remove(self, id: bytes) -> None:
        """Remove a node, which is a neighbour now, or was not found."""
        if (entry := self._entries.pop(id, None)) is not None:
            del self._places[entry.contact.host, entry.contact.port]
            _count_down(self._sources, entry.source)
            _count_down(self._sites, entry.site)

    def had_no_room(self, id: bytes, now: float) -> None:
        """Note that a node refused a link: it is not dialled for a while, longer each time."""
        if (entry := self._entries.get(id)) is not None:
            pause = backoff(FULL_FIRST, entry.full, FULL_LONGEST)
            entry.full += 1
            entry.until = now + jitter(pause, self._randomness)

    def put_off(self, id: bytes, until: float) -> None:
        """Do not dial a node before *until*."""
        if (entry := self._entries.get(id)) is not None:
            entry.until = max(entry.until, until)

    def ready(self, now: float, but: Collection[bytes] = (), *, full: bool = False) -> list[Contact]:
        """The contacts, except *but*, that may be dialled now; *full* adds nodes that had no room."""
        return [
            entry.contact
            for id, entry in self._entries.items()
            if id not in but
            and self._active.get(id) is None
            and (entry.until <= now or (full and entry.full))
        ]

    def has_site_but(self, sites: Collection[str | None]) -> bool:
        """Whether a contact is at a site that is none of *sites*."""
        return any(site not in sites for site in self._sites)

    def is_crowded(self, host: str, others: Iterable[Contact]) -> bool:
        """Whether a neighbour has the site of *host* already, while one of *others* is at a new site."""
        sites = self._active.sites()
        return site_of(host) in sites and any(
            self._entries[contact.id].site not in sites for contact in others
        )

    def pick(self, contacts: Iterable[Contact]) -> Contact | None:
        """Draw one of *contacts*: first a site, so that many ids at one site are no advantage."""
        sites: dict[str, list[Contact]] = {}
        for contact in contacts:
            sites.setdefault(self._entries[contact.id].site, []).append(contact)
        if not sites:
            return None
        taken = self._active.sites()
        new = [site for site in sites if site not in taken]
        return self._randomness.choice(sites[self._randomness.choice(new or list(sites))])

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"passive_view": len(self._entries), "passive_sources": len(self._sources)}

    def _make_room(self, site: str, source: bytes, sent: Collection[bytes]) -> None:
        goes = _largest(list(self._entries.values()), self._sites, lambda entry: entry.site, site)
        swapped = [entry for entry in goes if entry.contact.id in sent]
        if not swapped:
            counts = Counter(entry.source for entry in goes)
            goes = _largest(goes, counts, lambda entry: entry.source, source)
        goes = swapped or goes
        self.remove(self._randomness.choice(goes).contact.id)


def _largest(
    entries: list[_Candidate], counts: Counter[K], key: Callable[[_Candidate], K], own: K
) -> list[_Candidate]:
    """The *entries* with the most frequent key; *own* wins if several keys are equally frequent."""
    most = max(counts.values())
    if counts[own] == most:
        return [entry for entry in entries if key(entry) == own]
    return [entry for entry in entries if counts[key(entry)] == most]


def _count_down(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

"""The two views of the overlay: the neighbours a node has, and other nodes it could dial.

Contract: views count nodes.  Two links to one node are, while that lasts, one neighbour.  The passive
view is made of other nodes' words: whatever they tell, it is bounded, names a node and an address only
once, and of those who fill it none has more than its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from twisted_mesh.core.backoff import backoff
from twisted_mesh.core.link import Link
from twisted_mesh.core.reachability import Place, believed, site_of
from twisted_mesh.wire.membership import Contact, Purpose

T = TypeVar("T")
K = TypeVar("K")

#: Seconds until a node without room is asked again, doubling, half more or less (guess): the first
#: lets a mesh of a few nodes settle, the last keeps a full one from hammering.
FULL_FIRST: Final = 1.0
FULL_LONGEST: Final = 32.0

MET: Final = b""  #: whose word a contact is that this node has met itself


class Randomness(Protocol):
    """Randomness as it is passed in; a :class:`random.Random` is one."""

    def random(self) -> float:
        """A number from 0 up to 1."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of *seq*."""

    def sample(self, population: Sequence[T], /, k: int) -> list[T]:
        """*k* of *population*, each at most once."""


#: Dials a contact for a purpose at that time; False: it may not be dialled now.
Dial = Callable[[Contact, Purpose, float], bool]


def jitter(seconds: float, randomness: Randomness) -> float:
    """*seconds*, half more or less: nodes that began in one moment do not go on in step."""
    return seconds * (0.5 + randomness.random())


@dataclass(eq=False, slots=True)
class Neighbour:
    """A node this one is linked with.

    :ivar contact: where others can dial it; None if nobody can, or nothing believable was told.
    :ivar host: where it is, as a connection to it has it.
    :ivar links: the links to it, and whether the frontier has come on each.
    :ivar pinned: whether the application wants this link; :ivar ours: whether this node dialled it.
    :ivar since: when it was up first.
    :ivar joins: whether it came to join the mesh, and is still to be introduced.
    :ivar seeks: whether it is likely to look for more neighbours.
    """

    id: bytes
    since: float
    contact: Contact | None = None
    host: str = ""
    links: dict[Link, bool] = field(default_factory=dict)
    joins: bool = False
    ours: bool = False
    pinned: bool = False
    seeks: bool = False

    @property
    def up(self) -> bool:
        """Whether a frontier has come on one of the links."""
        return any(self.links.values())

    @property
    def way(self) -> Link:
        """The link that frames to it take: the newest that is up."""
        return max((link for link, up in self.links.items() if up), key=lambda link: link.number)

    def fits(self, contact: Contact) -> bool:
        """Whether *contact* is believed of it, and by it: both ends judge by where the other one is."""
        return believed(contact.host, self.host)


@dataclass(eq=False)
class ActiveView:
    """The nodes this one is linked with, by id and by link."""

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
        """The node that *link*, which is new, leads to."""
        node = self._nodes.setdefault(link.peer.id, Neighbour(link.peer.id, now))
        node.links[link] = False
        node.host = link.host
        self._links[link] = node
        return node

    def remove(self, link: Link) -> Neighbour | None:
        """The link is gone; its node, None if it was not known.  Without a link it is no neighbour."""
        if (node := self._links.pop(link, None)) is not None:
            del node.links[link]
            if not node.links:
                del self._nodes[node.id]
        return node

    def sites(self) -> set[str]:
        """Where they are, as far as that is known."""
        return {site_of(node.host) for node in self if node.host}

    def up(self) -> list[Neighbour]:
        """Those whose frontier has come."""
        return [node for node in self if node.up]

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"active_view": len(self._nodes), "active_links": len(self._links)}


@dataclass(eq=False)
class _Entry:
    """A contact, and who told it; *own_word*: whether it is the node's own."""

    contact: Contact
    source: bytes
    own_word: bool
    full: int = 0  # how often in a row it had no room
    until: float = 0.0  # when it may be asked again

    def __post_init__(self) -> None:
        self.site = site_of(self.contact.host)


@dataclass(eq=False)
class PassiveView:
    """Nodes this one is not linked with and could dial, each with whose word it is."""

    _own_id: bytes
    _limit: int
    _active: ActiveView
    _randomness: Randomness
    _entries: dict[bytes, _Entry] = field(default_factory=dict)
    _places: dict[Place, bytes] = field(default_factory=dict)
    _told: Counter[bytes] = field(default_factory=Counter)  # entries by source
    _sites: Counter[str] = field(default_factory=Counter)  # entries by where they are

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: bytes) -> bool:
        return id in self._entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def contacts(self) -> list[Contact]:
        """All of them."""
        return [entry.contact for entry in self._entries.values()]

    def add(
        self, contact: Contact, source: bytes, sent: Collection[bytes] = (), *, own_word: bool = False
    ) -> None:
        """*source* says that *contact* is a node; what is known of it or of its place already stays.

        Not against the node's own word: else a made up id at its place would keep it from being dialled.

        In a full view one of the host that has most makes room: of those first one of *sent*, which
        the other end has now as well, else one of the source that told most.

        :param sent: ids that went out for this one.
        :param own_word: whether the node itself has signed that, or was met there.
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
        entry = self._entries[contact.id] = _Entry(contact, source, own_word)
        self._places[place] = contact.id
        self._told[source] += 1
        self._sites[entry.site] += 1

    def remove(self, id: bytes) -> None:
        """The node is a neighbour now, or was not found."""
        if (entry := self._entries.pop(id, None)) is not None:
            del self._places[entry.contact.host, entry.contact.port]
            _count_down(self._told, entry.source)
            _count_down(self._sites, entry.site)

    def had_no_room(self, id: bytes, now: float) -> None:
        """The node refused a link: it is left alone for a while, longer each time."""
        if (entry := self._entries.get(id)) is not None:
            pause = backoff(FULL_FIRST, entry.full, FULL_LONGEST)
            entry.full += 1
            entry.until = now + jitter(pause, self._randomness)

    def put_off(self, id: bytes, until: float) -> None:
        """The node is not asked before *until*."""
        if (entry := self._entries.get(id)) is not None:
            entry.until = max(entry.until, until)

    def ready(self, now: float, but: Collection[bytes] = (), *, full: bool = False) -> list[Contact]:
        """Those that may be asked now.

        :param but: ids to leave out; *full*: take also those that had no room.
        """
        return [
            entry.contact
            for id, entry in self._entries.items()
            if id not in but
            and self._active.get(id) is None
            and (entry.until <= now or (full and entry.full))
        ]

    def is_crowded(self, host: str, others: Iterable[Contact]) -> bool:
        """Whether there is a neighbour at *host* already, and one of *others* is where there is none."""
        sites = self._active.sites()
        return site_of(host) in sites and any(
            self._entries[contact.id].site not in sites for contact in others
        )

    def pick(self, contacts: Iterable[Contact]) -> Contact | None:
        """One of *contacts*, which are ready: a host first, so that who has many ids there wins nothing."""
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
        return {"passive_view": len(self._entries), "passive_sources": len(self._told)}

    def _make_room(self, site: str, source: bytes, sent: Collection[bytes]) -> None:
        goes = _largest(list(self._entries.values()), self._sites, lambda entry: entry.site, site)
        swapped = [entry for entry in goes if entry.contact.id in sent]
        if not swapped:
            told = Counter(entry.source for entry in goes)
            goes = _largest(goes, told, lambda entry: entry.source, source)
        goes = swapped or goes
        self.remove(self._randomness.choice(goes).contact.id)


def _largest(entries: list[_Entry], counts: Counter[K], key: Callable[[_Entry], K], own: K) -> list[_Entry]:
    """Those of *entries* whose kind is the most frequent; if *own* is one of those kinds, of that one."""
    most = max(counts.values())
    if counts[own] == most:
        return [entry for entry in entries if key(entry) == own]
    return [entry for entry in entries if counts[key(entry)] == most]


def _count_down(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

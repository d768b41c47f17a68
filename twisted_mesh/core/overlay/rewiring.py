"""How a node with too many neighbours moves some to other nodes, without splitting the mesh.

Contract: three nodes take part in a move.  The *requester* asks one neighbour, the *moved* node, to link
with another neighbour, the *target*.  When that link is up, the moved node ends its link with the
requester.  All nodes that were connected stay connected, unless other links of the three fail:

When the moved node ends its link with the requester, both other links of the triangle stand, so there is
another way.  The link *moved - target* is up at the moved node.  The target ends that link only if the
moved node asked the target to move, and while such a request is open, the moved node keeps its link with
the requester.  The link *requester - target* was up when the requester asked.  The requester keeps it until
it knows how its request ended.  The target ends it only if the requester asks.  The requester does not ask
the target of an open request, nor choose as target a node whose answer it waits for.  So every request
needs an answer over the same link: its end, or the same frame with one step ``left``, which declines.  Over
another link to the same node, the refusal of an earlier request could be taken for the answer to a later
one.  A request without an answer stays open as long as its link stands, and its node is not asked again.
The argument needs no clock, and any number of nodes may move at once.

If the nodes want more links than all views have places, moving never ends.  So each round without
success waits longer than the round before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.views import ActiveView, Dial, Neighbour, Randomness, jitter
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose

#: Neighbours above ``active_view`` that are no reason to move: some node must have them (measured: without
#: this 100 newcomers dial four times as often until they rest, and ten times as often afterwards).
SPARE: Final = 1
#: Neighbours drawn by this node that are never moved.  All others could belong to one adversary, whose
#: nodes would decline to be moved (Bitcoin keeps its outbound links, too).
KEPT: Final = 2
PART: Final = 4  # a round moves a quarter of the surplus neighbours (guess)
SLOWER: Final = 1.1  # the factor by which the wait between rounds grows (guess)


@dataclass(eq=False, slots=True)
class _Task:
    """A request that this node carries out: link with *contact*, then end *link*."""

    contact: Contact
    link: Link
    until: float


@dataclass(eq=False, slots=True)
class _Request:
    """An open request of this node over *link*; *until*: when it hopes no more for the answer."""

    target: bytes  # the id of the node that the moved node is to link with
    link: Link
    until: float


@dataclass(eq=False)
class Rewiring:
    """The moves that this node requests, and the one in which it is the moved node."""

    _active: ActiveView
    _config: MeshConfig
    _randomness: Randomness
    _effects: Effects
    _dial: Dial
    _asked: dict[bytes, _Request] = field(default_factory=dict)  # by the id of the moved node
    # Neighbours that declined, and the time before which they are not asked again.
    _staying: dict[bytes, float] = field(default_factory=dict)
    _task: _Task | None = None
    _is_crowded: bool = False  # whether there were too many neighbours at the last review
    wake: float | None = None  # when the next round is due; None if there is nothing to move

    def __post_init__(self) -> None:
        self._most = self._config.active_view + SPARE
        self._pause = self._config.overlay_interval
        self._fewest = self._config.links_limit  # the fewest neighbours since there were too many

    # ── as the requester ────────────────────────────────────────────────────────────

    @property
    def deadline(self) -> float | None:
        """When this node declines the request that it carries out."""
        return None if self._task is None else self._task.until

    def review(self, now: float) -> None:
        """Plan a round, or none, since the view has changed; a soon one if there are too many again."""
        was_crowded, self._is_crowded = self._is_crowded, len(self._active) > self._most
        if len(self._active) <= self._config.active_view:
            self.wake = None
            self._fewest = self._config.links_limit
            return
        if self.wake is None or self._is_crowded > was_crowded:
            soon = now + jitter(self._config.overlay_interval, self._randomness)
            self.wake = soon if self.wake is None else min(self.wake, soon)

    def joined(self) -> None:
        """Take in that a newcomer has joined: more neighbours are then no sign of useless moves."""
        self._fewest += 1

    def tick(self, now: float) -> None:
        """Decline a request that takes too long, and ask some of the surplus neighbours to move."""
        if self._task is not None and self._task.until <= now:
            self._decline(self._task)
        if self.wake is None or now < self.wake:
            return
        hopeful = sum(request.until > now for request in self._asked.values())
        surplus = len(self._active) - self._most - hopeful
        for _ in range(-(-surplus // PART) if surplus > 0 else 1 - hopeful):
            if not self._ask(now, seeking=surplus <= 0):
                break
        self.wake = now + jitter(self._pause, self._randomness)
        if len(self._active) < self._fewest:
            self._fewest = len(self._active)
            self._pause = self._config.overlay_interval
        else:
            self._pause = min(self._pause * SLOWER, self._config.shuffle_interval)

    def answered(self, link: Link, moved: Neighbour, target: bytes, now: float) -> None:
        """Take in that *moved* declines, over *link*, to move to *target*."""
        asked = self._asked.get(moved.id)
        if asked is not None and (asked.target, asked.link) == (target, link):
            del self._asked[moved.id]
            self._staying[moved.id] = now + jitter(self._config.move_timeout, self._randomness)

    def _ask(self, now: float, *, seeking: bool) -> bool:
        """Ask one neighbour to move to another, if *seeking* to one that seeks more; False if none can."""
        locked = {request.target for request in self._asked.values()}
        nodes = [node for node in self._active.up() if node.id not in self._asked]
        drawn = len(self._active.drawn())
        movable = [
            node
            for node in nodes
            if not (node.pinned or node.id in locked or (node.drawn and drawn <= KEPT))
            and self._staying.get(node.id, -inf) <= now
            and now - node.since >= self._config.overlay_interval  # the node has had time to learn contacts
        ]
        targets = [node for node in nodes if node.contact is not None and (node.seeks or not seeking)]
        if not movable or not targets:
            return False
        # A node that looks for neighbours should keep the neighbours it has.
        moved = self._randomness.choice([node for node in movable if not node.seeks] or movable)
        targets = [
            node
            for node in targets
            if node is not moved and node.contact is not None and moved.fits(node.contact)
        ]
        if not targets:
            return False
        target = self._randomness.choice([node for node in targets if node.seeks] or targets)
        assert target.contact is not None
        target.seeks = False
        self._asked[moved.id] = _Request(target.id, moved.way, now + self._config.move_timeout)
        self._effects.send((moved.way,), ForwardJoin(target.contact, 0, True))
        return True

    # ── as the moved node ───────────────────────────────────────────────────────────

    def asked(self, link: Link, contact: Contact, now: float) -> Link | None:
        """Take in that the peer of *link* asks this node to move; return the link to end now, if any."""
        if self._task is not None:
            self.refuse(link, contact)
            return None
        task = _Task(contact, link, now + self._config.move_timeout)
        self._task = task
        if (target := self._active.get(contact.id)) is not None and target.up:
            return self._finish(task)
        if target is None and not self._dial(contact, Purpose.URGENT, now):
            self._decline(task)
        return None

    def refuse(self, link: Link, contact: Contact) -> None:
        """Decline over *link* to move to *contact*."""
        self._effects.send((link,), ForwardJoin(contact, 1, True))

    def up(self, id: bytes) -> Link | None:
        """Take in that a link to the node *id* is up; return the link to end now, if any.

        The node is as good as the requester, which has chosen it: if this node drew that, this counts, too.
        """
        if self._task is None or self._task.contact.id != id:
            return None
        requester, target = self._active.over(self._task.link), self._active.get(id)
        if (ended := self._finish(self._task)) is not None and requester is not None and target is not None:
            target.drawn |= requester.drawn
        return ended

    def failed(self, id: bytes) -> None:
        """Take in that the node *id* was not found."""
        if self._task is not None and self._task.contact.id == id:
            self._decline(self._task)

    def closed(self, node: Neighbour, link: Link) -> None:
        """Take in that *link* to *node* is gone; without another link the node is no neighbour."""
        if self._task is not None and self._task.link is link:
            self._task = None
        if (asked := self._asked.get(node.id)) is not None and asked.link is link:
            del self._asked[node.id]
        if not node.links:
            self._staying.pop(node.id, None)
            self.failed(node.id)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"moves_asked": len(self._asked), "moves_declined": len(self._staying)}

    def _finish(self, task: _Task) -> Link | None:
        requester = self._active.over(task.link)
        assert requester is not None  # the task ends with the link
        counted_on = any(request.target == requester.id for request in self._asked.values())
        # If there is another link to the requester, which came up after its request, the requester could
        # take that link for one that this node has made since.
        if counted_on or task.contact.id in self._asked or len(requester.links) > 1:
            self._decline(task)
            return None
        self._task = None
        return task.link

    def _decline(self, task: _Task) -> None:
        self._task = None
        self.refuse(task.link, task.contact)

"""How a node that has too many neighbours hands some on, so that the mesh never falls apart by it.

Contract: a link is never just cut.  The *requester* asks one neighbour, the *moved* node, to link with
another one, the *target*, and the moved node ends its link with the requester when the one with the target
is up.  If the three are not changed by anything else, what was connected stays connected:

The moved node ends the link at a moment at which both other sides of the triangle stand, so that there is a
way round it.  *Moved - target* is up at the moved node; the target ends it only if the moved node asked it
to, and while such a request is open the moved node does not end the other link.  *Requester - target* was
up when the requester asked.  The requester follows nobody's request to end it until it knows how its own
ended.  The target ends it only if the requester asks, which it does not while the link is a target's; nor
does it take for a target a node that it has asked and not heard of.  So every request is answered: by the
end of the link, or by the same frame with a step ``left``, which says that it will not be.  One that is
not answered binds for as long as the link stands; that node is asked no more.  No clock is part of the
argument, and it does not matter how many nodes move at once, nor how many each.

What is left to chance is only whether moving gets anywhere: where more links are wanted than all views
have places for, it never does, and each round waits longer than the one before.
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

#: One neighbour more than wanted is no reason to move: somebody must have it (measured: without this 100
#: newcomers dial four times as often until they settle, and ten times as often afterwards).
SPARE: Final = 1
#: Neighbours this node has dialled that it never hands on: those it has not chosen itself could all be
#: one adversary's, and would be the ones that do not go when asked (as Bitcoin keeps its outbound links).
KEPT: Final = 2
PART: Final = 4  # of what is too much this part is moved in a round (guess)
SLOWER: Final = 1.1  # the growth of the wait between two rounds (guess)


@dataclass(eq=False, slots=True)
class _Task:
    """A request this node follows: link with *contact*, then end *link*."""

    contact: Contact
    link: Link
    until: float


@dataclass(eq=False)
class Rewiring:
    """Both sides of moving: what this node asked of others, and the one request it follows.

    :ivar wake: when the next round is due, None where there is nothing to move.
    """

    _active: ActiveView
    _config: MeshConfig
    _randomness: Randomness
    _effects: Effects
    _dial: Dial
    # by moved: its target, and until when
    _asked: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    # neighbours that said no, and until when that holds
    _staying: dict[bytes, float] = field(default_factory=dict)
    _task: _Task | None = None
    wake: float | None = None

    def __post_init__(self) -> None:
        self._most = self._config.active_view + SPARE
        self._pause = self._config.overlay_interval
        self._fewest = self._config.links_limit  # neighbours, since there were last too many

    # ── what this node asks of others ───────────────────────────────────────────────

    @property
    def deadline(self) -> float | None:
        """When the request this node follows is given up."""
        return None if self._task is None else self._task.until

    def review(self, now: float) -> None:
        """The view has changed: see whether there is something to move, and when."""
        if len(self._active) <= self._config.active_view:
            self.wake = None
            self._fewest = self._config.links_limit
        elif self.wake is None:
            self.wake = now + jitter(self._config.overlay_interval, self._randomness)

    def joined(self) -> None:
        """A newcomer is one more to hand on, and no sign that it is of no use."""
        self._fewest += 1

    def tick(self, now: float) -> None:
        """Give up what takes too long, and move a part of what is too much."""
        if self._task is not None and self._task.until <= now:
            self._decline(self._task)
        if self.wake is None or now < self.wake:
            return
        hopeful = sum(until > now for _, until in self._asked.values())
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

    def answered(self, moved: Neighbour, target: bytes, now: float) -> None:
        """*moved* says that it will not go to *target*."""
        if (asked := self._asked.get(moved.id)) is not None and asked[0] == target:
            del self._asked[moved.id]
            self._staying[moved.id] = now + jitter(self._config.move_timeout, self._randomness)

    def _ask(self, now: float, *, seeking: bool) -> bool:
        """Ask one neighbour to link with another one instead of with this node.

        :param seeking: whether it must be one that looks for neighbours.
        """
        locked = {target for target, _ in self._asked.values()}
        nodes = [node for node in self._active.up() if node.id not in self._asked]
        ours = sum(node.ours for node in self._active)
        movable = [
            node
            for node in nodes
            if not (node.pinned or node.id in locked or (node.ours and ours <= KEPT))
            and self._staying.get(node.id, -inf) <= now
            and now - node.since >= self._config.overlay_interval  # it has learnt something here
        ]
        targets = [node for node in nodes if node.contact is not None and (node.seeks or not seeking)]
        if not movable or not targets:
            return False
        # Who looks for neighbours is to keep those it has, and to get the others.
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
        self._asked[moved.id] = target.id, now + self._config.move_timeout
        self._effects.send((moved.way,), ForwardJoin(target.contact, 0, True))
        return True

    # ── what others ask of this node ────────────────────────────────────────────────

    def asked(self, link: Link, contact: Contact, now: float) -> Link | None:
        """The node at the far end of *link* wants this one to link with *contact* instead.

        :return: the link to end now, if there is one.
        """
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
        """Say over *link* that this node does not go to *contact* instead."""
        self._effects.send((link,), ForwardJoin(contact, 1, True))

    def up(self, id: bytes) -> Link | None:
        """A link to the node *id* is up; the link to end now, if there is one."""
        if self._task is not None and self._task.contact.id == id:
            return self._finish(self._task)
        return None

    def failed(self, id: bytes) -> None:
        """The node *id* was not found."""
        if self._task is not None and self._task.contact.id == id:
            self._decline(self._task)

    def closed(self, node: Neighbour, link: Link) -> None:
        """*link*, which led to *node*, is gone; without another the node is no neighbour any more."""
        if self._task is not None and self._task.link is link:
            task, self._task = self._task, None
            if node.up:
                self.refuse(node.way, task.contact)
        if not node.links:
            self._asked.pop(node.id, None)
            self._staying.pop(node.id, None)
            self.failed(node.id)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"moves_asked": len(self._asked), "moves_declined": len(self._staying)}

    def _finish(self, task: _Task) -> Link | None:
        requester = self._active.over(task.link)
        assert requester is not None  # else the task had ended with the link
        counted_on = any(target == requester.id for target, _ in self._asked.values())
        # Another link to it, which may have come up there after it asked, it would take for a new one.
        if counted_on or task.contact.id in self._asked or len(requester.links) > 1:
            self._decline(task)
            return None
        self._task = None
        return task.link

    def _decline(self, task: _Task) -> None:
        self._task = None
        self.refuse(task.link, task.contact)

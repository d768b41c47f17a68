"""How a node that has too many neighbours hands some on, so that the mesh never falls apart by it.

Contract: a link is never just cut.  The *mover* asks one neighbour, the *victim*, to link with another
one, the *anchor*, and the victim ends its link with the mover when the one with the anchor is up.
Where the three are not changed by anything else, what was connected stays connected:

The victim ends the link at a moment at which both other sides of the triangle stand, so that there is a
way round it.  *Victim - anchor* is up at the victim; the anchor ends it only if the victim asked it to,
and while such a question is open the victim does not end the other link.  *Mover - anchor* was up when
the mover asked; the mover follows nobody's request to end it until it knows how its own ended, and the
anchor ends it only if the mover asks, which it does not while the link is an anchor's, nor takes for an
anchor whom it has asked and not heard of.  So every question is answered: by the end of the link, or
by the same frame with a step ``left``, which says that it will not be.  One that is not answered binds
for as long as the link stands; that node is asked no more.  No clock is part of the argument, and it
does not matter how many nodes move at once, nor how many each.

What is left to chance is only whether moving gets anywhere: where more links are wanted than all views
have places for, it never does, and each round waits longer than the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.views import ActiveView, Neighbour, Randomness, jitter
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose

#: One neighbour more than wanted is no reason to move: somebody must have it (measured: without this 100
#: newcomers dial four times as often until they settle, and ten times as often afterwards).
SPARE: Final = 1
#: Neighbours this node has dialled that it never hands on: those it has not chosen itself could all
#: be one liar's, and would be the ones that do not go when asked (as Bitcoin keeps its outbound links).
KEPT: Final = 2
PART: Final = 4  # of what is too much this part is moved in a round (guess)
SLOWER: Final = 1.1  # the growth of the wait between two rounds (guess)

_TAKES_PLACE = "another takes the place of this link"


class _Task:
    """A request this node follows: link with *contact*, then end link *number*."""

    __slots__ = ("contact", "number", "until")

    def __init__(self, contact: Contact, number: int, until: float) -> None:
        self.contact = contact
        self.number = number
        self.until = until


class Rewiring:
    """Both sides of moving: what this node asked of others, and the one request it follows.

    :ivar wake: when the next round is due, None where there is nothing to move.
    """

    def __init__(
        self,
        active: ActiveView,
        config: MeshConfig,
        randomness: Randomness,
        send: Callable[[int, ForwardJoin], None],
        dial: Callable[[Contact, Purpose], bool],
        close: Callable[[int, Reason, str], None],
    ) -> None:
        self._active = active
        self._config = config
        self._randomness = randomness
        self._send = send
        self._dial = dial
        self._close = close
        self._most = config.active_view + SPARE
        self._asked: dict[bytes, tuple[bytes, float]] = {}  # by victim: its anchor, and until when
        self._staying: dict[bytes, float] = {}  # neighbours that said no, and until when that holds
        self._task: _Task | None = None
        self._pause = config.overlay_interval
        self._fewest = config.links_limit  # neighbours, since there were last too many
        self.wake: float | None = None

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

    def answered(self, victim: Neighbour, anchor: bytes, now: float) -> None:
        """*victim* says that it will not go to *anchor*."""
        asked = self._asked.get(victim.id)
        if asked is not None and asked[0] == anchor:
            del self._asked[victim.id]
            self._staying[victim.id] = now + jitter(self._config.move_timeout, self._randomness)

    def _ask(self, now: float, *, seeking: bool) -> bool:
        """Ask one neighbour to link with another one instead of with this node.

        :param seeking: whether it must be one that looks for neighbours.
        """
        locked = {anchor for anchor, _ in self._asked.values()}
        nodes = [node for node in self._active.up() if node.id not in self._asked]
        ours = sum(node.ours for node in self._active)
        victims = [
            node
            for node in nodes
            if not (node.pinned or node.id in locked or (node.ours and ours <= KEPT))
            and self._staying.get(node.id, -inf) <= now
            and now - node.since >= self._config.overlay_interval  # it has learnt something here
        ]
        anchors = [node for node in nodes if node.contact is not None and (node.seeks or not seeking)]
        if not victims or not anchors:
            return False
        # Who looks for neighbours is to keep those it has, and to get the others.
        victim = self._randomness.choice([node for node in victims if not node.seeks] or victims)
        anchors = [
            node
            for node in anchors
            if node is not victim and node.contact is not None and victim.fits(node.contact)
        ]
        if not anchors:
            return False
        anchor = self._randomness.choice([node for node in anchors if node.seeks] or anchors)
        assert anchor.contact is not None
        anchor.seeks = False
        self._asked[victim.id] = anchor.id, now + self._config.move_timeout
        self._send(victim.way, ForwardJoin(anchor.contact, 0, True))
        return True

    # ── what others ask of this node ────────────────────────────────────────────────

    def asked(self, number: int, contact: Contact, now: float) -> None:
        """The node at the far end of link *number* wants this one to link with *contact* instead."""
        if self._task is not None:
            self.refuse(number, contact)
            return
        task = _Task(contact, number, now + self._config.move_timeout)
        self._task = task
        anchor = self._active.get(contact.id)
        if anchor is not None and anchor.up:
            self._finish(task)
        elif anchor is None and not self._dial(contact, Purpose.URGENT):
            self._decline(task)

    def refuse(self, number: int, contact: Contact) -> None:
        """Say over link *number* that this node does not go to *contact* instead."""
        self._send(number, ForwardJoin(contact, 1, True))

    def up(self, id: bytes) -> None:
        """A link to the node *id* is up."""
        if self._task is not None and self._task.contact.id == id:
            self._finish(self._task)

    def failed(self, id: bytes) -> None:
        """The node *id* was not found."""
        if self._task is not None and self._task.contact.id == id:
            self._decline(self._task)

    def closed(self, node: Neighbour, number: int) -> None:
        """Link *number* to *node* is gone; without another the node is no neighbour any more."""
        if self._task is not None and self._task.number == number:
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

    def _finish(self, task: _Task) -> None:
        mover = self._active.over(task.number)
        assert mover is not None  # else the task had ended with the link
        counted_on = any(anchor == mover.id for anchor, _ in self._asked.values())
        # Another link to it, which may have come up there after it asked, it would take for a new one.
        if counted_on or task.contact.id in self._asked or len(mover.links) > 1:
            self._decline(task)
            return
        self._task = None
        self._close(task.number, Reason.ROOM, _TAKES_PLACE)

    def _decline(self, task: _Task) -> None:
        self._task = None
        self.refuse(task.number, task.contact)

"""What is sent to everybody: numbered, pushed, held, asked for and answered by the parts of this room.

Contract: what comes in goes through ``inbound`` and the history, out by ``push``; what is missing is found
by ``frontier`` and got by ``repair``.  What goes to the application is returned, as :data:`Handed`, since
receipts depend on it: a method that yields it has done its work when all of it is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.flow import Flow
from twisted_mesh.core.broadcast.frontier import Frontier
from twisted_mesh.core.broadcast.inbound import Handed, Inbound
from twisted_mesh.core.broadcast.joining import Joining
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import GapFound, Numbered, Publish, StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import Ready
from twisted_mesh.core.link import READ_SNAPSHOT, Link
from twisted_mesh.core.links import Links
from twisted_mesh.wire import codec
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Presence

_HELP_AFTER: Final = 1.0  # seconds a hole is left to the neighbours before others are asked (guess)


class Broadcast:
    """The messages to everybody, at one node.

    :ivar outbox: the own ones; :ivar flow: how far those have come.
    :ivar joining: where streams begin; :ivar frontier: what peers hold.
    :ivar inbound: the way in; :ivar push: the way out; :ivar repair: what is asked for.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        links: Links,
        history: History,
        admission: Admission,
        effects: Effects,
        settled: bool,
    ) -> None:
        """:param settled: whether this node has a base."""
        run = (local_node.origin, local_node.epoch)
        network = codec.network_digest(local_node.network.id)
        self._config = config
        self._links = links
        self._history = history
        self._effects = effects
        self.parents = parents = Parents()
        self.outbox = outbox = Outbox(*run, network, local_node.sign, config.batch_bytes)
        self.flow = Flow(config, outbox, links, effects)
        self.repair = repair = Repair(history, links, parents, config)
        self.push = push = Push(local_node.origin, history, links, parents, config, effects)
        self.patience = Patience(config, history, repair, push)
        self.joining = Joining(config, history, outbox, effects, settled)
        self.frontier = Frontier(history, outbox, self.flow, repair, push, self.patience)
        self.inbound = Inbound(local_node, history, outbox, repair, push, admission, effects)

    # ── links ───────────────────────────────────────────────────────────────────────

    def tell(self, link: Link, older: Link | None, settled: bool, now: float) -> None:
        """Tell the peer of a new link what is held.

        :param older: the link to the same node that was kept so far, if there is one.
        :param settled: what this node said of itself in the handshake.
        """
        link.frontier.compares = settled and link.peer.settled
        if link.frontier.compares:
            self._effects.send((link,), self.frontier.digest())
        else:
            self.joining.tell(link, older, now)

    def told(self, link: Link, now: float) -> None:
        """The peer of a new link was told all: have it say when it has read that."""
        link.flow.measure(now, least=0)
        self._effects.send((link,), Ping(READ_SNAPSHOT))
        self._effects.set_timer(Timer.AGE, now + self._config.history_seconds / 10)

    def link_gone(self, number: int, now: float) -> None:
        """Nothing is asked of a link any more, and what came over it is to come another way."""
        self.repair.link_gone(number, now)
        for run in self.parents.lost_with(number):
            if (asked := self.repair.parent_lost(run, now)) is not None:
                self.parents.note(run, 0, asked)

    # ── messages ────────────────────────────────────────────────────────────────────

    def publish(self, event: Publish, now: float) -> None:
        """Number, hold and push own messages."""
        for signed in self.outbox.publish(event.entries, event.wall_ms):
            self._history.add(signed, now)
            self.push.publish(signed, now, follows=self.outbox.taken >= signed.batch.first - 1)
            self._effects.emit(Numbered(self.outbox.run, signed.batch.first, signed.batch.count))

    def arriving(self, link: Link, now: float) -> None:
        """Some of a frame has come over *link*, which takes long."""
        if (run := self.repair.arriving(link, now)) is not None:
            self.push.under_way(link, run, now)

    def evident(self, presence: Presence, at_join: tuple[int, int] | None, now: float) -> Iterator[Handed]:
        """The newest record of an author says how far its stream has come.

        :param at_join: the epoch and the sequence of the author when this node joined.
        """
        run = (presence.origin, presence.epoch)
        if (lowered := self.joining.lowered(run, presence.sequence, at_join)) is not None:
            yield from self._pass_gaps([lowered], now)
            self.repair.ask_again(run, now)
        self._history.hinted(run, presence.sequence, now)

    def evict(self, now: float) -> Iterator[Handed]:
        """Give up what is beyond the limits: a record alone opens a stream, and no batch need ever come."""
        yield from self._pass_gaps(self._history.evict(self.outbox.run, self.outbox.taken), now)

    def _pass_gaps(self, gaps: Iterable[tuple[GapFound, list[Ready]]], now: float) -> Iterator[Handed]:
        for gap, behind in gaps:
            yield from self.inbound.gap(gap, behind, now)

    # ── time ────────────────────────────────────────────────────────────────────────

    def compare(self, now: float) -> None:
        """Have the neighbours compare what they hold with what this node does."""
        links = [link for link in self._links.fed if link.up]
        if links:
            self._effects.send(links, self.frontier.digest())
            self.compare_later(now)

    def compare_later(self, now: float) -> None:
        """Have :meth:`compare` called in time."""
        self._effects.set_timer(Timer.COMPARE, now + self._config.compare_interval)

    def age(self, now: float) -> None:
        """Forget what is older than the retention."""
        self._history.age(now, self.outbox.run, self.outbox.taken)
        self._effects.set_timer(Timer.AGE, now + self._config.history_seconds / 10)

    def give_up_holes(self, now: float) -> Iterator[Handed]:
        """Give up what was missing for too long."""
        self.patience.put_off(now)
        gaps = list(self._history.give_up(now, self._config.gap_patience))
        yield from self._pass_gaps(gaps, now)
        # A neighbour that waits behind the hole may have the next one's messages, and claims none of them.
        behind = dict.fromkeys((gap.origin, gap.epoch) for gap, _ in gaps)
        self.repair.pull_from_all([run for run in behind if self._history.has_hole(run)], now)

    def watch_holes(self) -> None:
        """See to it that a hole nothing fills is given up in time."""
        if not self._effects.is_set(Timer.GAPS):
            since = self._history.oldest_hole
            if since is not None:  # once set it looks at every hole when it fires
                self._effects.set_timer(Timer.GAPS, since + self._config.gap_patience)

    def missing(self, now: float) -> list[StreamId]:
        """The runs of which something is missing that no neighbour is asked for."""
        return [
            run
            for run, since in self._history.holes()
            if since + _HELP_AFTER <= now and not self.repair.is_pulled(run, now)
        ]

    def overdue(self, run: StreamId, now: float) -> None:
        """Its author has not spoken when it should have: try another way to it."""
        if not self.repair.is_slowed(run[0], now):
            self.repair.parent_lost(run, now)

    def last_pull(self, link: Link, now: float) -> None:
        """The node at *link* is about to stop: send it the last WANTs, before it is told that it may go."""
        self.repair.leaves(link, now)
        self.schedule(now)

    def schedule(self, now: float) -> None:
        """Send the WANTs that are due."""
        if self.repair.wake is None:
            return
        for link, want in self.repair.due(now):
            if want.graft:
                link.push.lazy_by_us.pop(want.origin, None)
            self._effects.send((link,), want)
            self.push.measure(link, now, least=1)
        if self.repair.wake is not None:
            self._effects.set_timer(Timer.REPAIR, self.repair.wake)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            **self._history.footprint(),
            **self.push.footprint(),
            **self.repair.footprint(),
            **self.patience.footprint(),
            "unsent_batches": len(self.outbox),
            "unsent_bytes": self.outbox.unsent_bytes,
        }

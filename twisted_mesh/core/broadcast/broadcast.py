"""Messages to all nodes of the mesh: composes the parts of this room.

Contract: batches come in through ``inbound`` and the history, and go out through ``push``.  ``frontier``
finds which messages are missing, and ``repair`` gets them.  Methods return an :data:`Outcome` for all
that goes to the application, since receipts depend on it.  The work of a method that yields
outcomes is done only when the caller has read all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.broadcast.frontier import Frontier
from twisted_mesh.core.broadcast.inbound import Inbound, Outcome
from twisted_mesh.core.broadcast.joining import Joining
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.outflow import Outflow
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Numbered, Publish, StreamId, Timer, Unplaced
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import READ_SNAPSHOT, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.renewal import Renewal
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Want
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Presence

_HELP_AFTER: Final = 1.0  # seconds for which only neighbours are asked to fill a hole (guess)


class Broadcast:
    """Sends, receives and repairs messages at one node; each attribute is a part, named like its module."""

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
        network = codec.network_digest(local_node.network_id)
        self._config = config
        self._admission = admission
        self._links = links
        self._history = history
        self._effects = effects
        self.parents = parents = Parents()
        self.outbox = outbox = Outbox(*run, network, local_node.sign, config.batch_bytes)
        self.outflow = Outflow(config, outbox, links, effects)
        self.repair = repair = Repair(history, links, parents, admission, config)
        self.push = push = Push(local_node.origin, history, links, parents, config, effects)
        self.patience = Patience(config, history, repair, push)
        self.renewal = renewal = Renewal(config, effects)
        self.forks = forks = Forks(local_node, history, outbox, renewal, links, effects)
        self.joining = Joining(forks, renewal, config, history, outbox, effects, settled)
        self.frontier = Frontier(history, outbox, self.outflow, repair, push, self.patience, forks)
        self.inbound = Inbound(local_node, forks, history, repair, push, admission, effects)

    # ── links ───────────────────────────────────────────────────────────────────────

    def send_frontier(self, link: Link, older: Link | None, settled: bool, now: float) -> None:
        """Tell the peer of a new link which messages this node holds.

        :param older: the link to the same node that was kept so far, if there is one.
        :param settled: whether this node said in the handshake that it has a base.
        """
        link.frontier.compares = settled and link.peer.settled
        if link.frontier.compares:
            self._effects.send((link,), self.frontier.digest())
        else:
            self.joining.send_snapshot(link, older, now)

    def begun(self, link: Link, now: float) -> None:
        """Have the peer of a new link say (PONG) when it has read the first frames."""
        link.flow.meter.sent(link.flow.sent, now, 0)
        self._effects.send((link,), Ping(READ_SNAPSHOT))
        self._age_later(now)

    def link_gone(self, number: int, now: float) -> None:
        """Ask other links for the messages that a link, which is gone, was to bring."""
        self.inbound.waiting.link_gone(number)
        self.repair.link_gone(number, now)
        for run in self.parents.lost_with(number):
            if (asked := self.repair.parent_lost(run, now)) is not None:
                self.parents.note(run, 0, asked)

    # ── messages ────────────────────────────────────────────────────────────────────

    def publish(self, event: Publish, now: float) -> None:
        """Number, hold and push own messages."""
        for signed in self.outbox.publish(event.entries, event.wall_ms, event.fits):
            self._history.add(signed, now)
            self.push.published(signed, now, follows=self.outbox.accepted >= signed.batch.first - 1)
            self._effects.emit(Numbered(self.outbox.run, signed.batch.first, signed.batch.count))

    def arriving(self, link: Link, now: float) -> None:
        """Note that *link* is in the middle of a frame that takes long to come."""
        if (run := self.repair.arriving(link, now)) is not None:
            self.push.under_way(link, run, now)

    def start(self, records: Sequence[Presence], now: float) -> Iterator[Outcome]:
        """Begin all streams: the first neighbour has sent its roster, or will send nothing more.

        :param records: the newest record of each author on this node's roster.
        """
        for run, skip in self.joining.start(records, now):
            yield from self.inbound.skipped([skip], now)
            self.repair.ask_again(run, now)
        for presence in records:
            yield from self.recorded(presence, now)

    def recorded(self, presence: Presence, now: float) -> Iterator[Outcome]:
        """Take in an author's newest record: how much it has published, and which of its runs are void."""
        if not self._admission.bars(presence.origin):  # otherwise none of its messages is missing here
            self._history.hinted((presence.origin, presence.epoch), presence.sequence, now)
        floor = min(presence.floor, presence.epoch)
        yield from self.inbound.skipped(self._history.raise_floor(presence.origin, floor), now)

    def evict(self, now: float) -> Iterable[Outcome]:
        """Keep the history within its limits, after anything by which more may be held, or given up."""
        return self._evict(now) if self._history.is_over_limits else ()

    def _evict(self, now: float) -> Iterator[Outcome]:
        skips = self._history.evict(self.outbox.run, self.outbox.accepted, now)
        yield from self.inbound.skipped(skips, now)
        for run in self._history.unplaced():
            self._effects.emit(Unplaced(run))

    # ── time ────────────────────────────────────────────────────────────────────────

    def compare(self, now: float) -> None:
        """Have the neighbours compare their streams with those of this node."""
        links = [link for link in self._links.fed if link.up]
        if links:
            self._effects.send([link for link in links if not link.frontier.over], self.frontier.digest())
            for link in links:
                if link.frontier.over:
                    self._effects.send((link,), self.frontier.digest(link))
            self.compare_later(now)

    def compare_later(self, now: float) -> None:
        """Have :meth:`compare` called in time."""
        self._effects.set_timer(Timer.COMPARE, now + self._config.compare_interval)

    def age(self, now: float) -> None:
        """Forget batches that are older than the retention, and note which authors are known by now."""
        self._history.age(now, self.outbox.run, self.outbox.accepted)
        self._age_later(now)

    def _age_later(self, now: float) -> None:
        """Have :meth:`age` called in time."""
        shortest = min(self._config.history_seconds, self._config.known_after)
        self._effects.set_timer(Timer.AGE, now + shortest / 10)

    def give_up_holes(self, now: float) -> Iterator[Outcome]:
        """Give up messages that were missing for too long."""
        self.patience.put_off(now)
        skips = list(self._history.give_up(now, self._config.gap_patience))
        yield from self.inbound.skipped(skips, now)
        # A neighbour may have batches for the next hole that wait there; it does not claim them.  All are
        # asked, also if one is about to be: the next hole is given up after BETWEEN_HOLES.
        behind = dict.fromkeys((gap.origin, gap.epoch) for gap, _ in skips)
        runs = [run for run in behind if self._history.has_hole(run)]
        self.repair.pull_from_all(runs, now, again=True)  # who was asked was asked for what is given up

    def watch_holes(self) -> None:
        """Set the timer that gives up holes, unless it is set: when it fires, all holes are looked at."""
        if self._history.has_holes and not self._effects.is_set(Timer.GAPS):
            since = self._history.oldest_hole
            assert since is not None
            self._effects.set_timer(Timer.GAPS, since + self._config.gap_patience)

    def missing(self, now: float) -> list[StreamId]:
        """The runs with a hole for which no neighbour is asked, or a neighbour was asked in vain."""
        old = (run for run, since in self._history.holes() if since + _HELP_AFTER <= now)
        return self.repair.unsent(old, now)

    def overdue(self, run: StreamId, times: int, now: float) -> None:
        """Try another way to the author of *run*, whose next record of presence is late.

        :param times: how often that was tried since the last record came.
        """
        if self.repair.slow_parent(run[0], now) is None:
            self.repair.parent_lost(run, now, times)

    def last_pull(self, link: Link, now: float) -> None:
        """Send the last WANTs to the peer, which waits for this node's answer (PONG) and then stops."""
        link.flow.peer_leaves = True
        if not link.closing:
            self._ask(self.repair.last_wants(link, now), now)

    def schedule(self, now: float) -> None:
        """Send the WANTs that are due."""
        if self.repair.wake is None:
            return
        self._ask(self.repair.due(now), now)
        if self.repair.wake is not None:
            self._effects.set_timer(Timer.REPAIR, self.repair.wake)

    def _ask(self, wants: Iterable[tuple[Link, Want]], now: float) -> None:
        for link, want in wants:
            if want.graft:
                link.push.lazy_by_us.pop(want.origin, None)
            self._effects.send((link,), want)
            self.push.lines.measure(link, now, least=1)

    def footprint(self) -> dict[str, int]:
        """The number of entries, or of bytes, in every table."""
        return {
            **self._history.footprint(),
            **self.forks.footprint(),
            **self.push.footprint(),
            **self.repair.footprint(),
            **self.patience.footprint(),
            **self.inbound.waiting.footprint(),
            **self.outbox.footprint(),
        }

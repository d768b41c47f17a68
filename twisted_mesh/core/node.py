"""A node: links, history, trees and repair composed into one function of events.

Contract: ``handle(event, now) -> effects``; ``now`` is seconds of any steady clock.  State is
committed before the effects are returned.  A peer that breaks the protocol gets a Close effect and
changes nothing else; any exception out of :meth:`Node.handle` is a fault of ours.

What comes in goes through :mod:`inbound` and :mod:`history`, out by :mod:`push`; what is missing is found
by :mod:`frontier` and got by :mod:`repair`; who is there and whose neighbour is :mod:`membership`'s.
"""

from __future__ import annotations

from typing import Final, assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.flow import Flow
from twisted_mesh.core.broadcast.frontier import Frontier
from twisted_mesh.core.broadcast.inbound import Inbound
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Effect, Event, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import READ_SNAPSHOT, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.overlay.neighbourhood import Neighbourhood
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.replies.replies import ReplyRouting
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.membership import ForwardJoin, Presence, Shuffle, ShuffleReply, Suspect
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord

_DOUBLE = "another link to this node is kept"
_OUTRUN = "another node uses this key, in a newer run"
_SUCCEEDED = "a newer run of this key is linked: the node was restarted, or another one uses its key"
_SHARED = "two nodes use this key, and the one started later keeps it: give each an identity of its own"
_EARLY = (native.Snapshot, native.Digest, native.Prune, native.Ping, native.Pong, native.Unknown)

#: Of :attr:`Node.counts` what a bound had dropped; the others were of no use.
DROPPED: Final = frozenset(
    {"no_room", "authors_waiting", "dropped_receipts", "dropped_directs", "dropped_walks"}
)


class Node:
    """The core of one run of one node.

    :ivar history: what it holds; :ivar roster: all authors but this node.
    :ivar sending: the way out; :ivar reverse: the way back; :ivar membership: who is there.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        randomness: Randomness,
        history: History | None = None,
        settled: bool = False,
    ) -> None:
        """
        :param randomness: where chance comes from; *history*: what it holds to begin with.
        :param settled: whether it has a base for that.
        """
        self._config = config
        self._network = native.network_digest(local_node.network.id)
        self._now = 0.0
        effects = self._effects = Effects((local_node.origin, local_node.epoch))
        self._links = Links(local_node, config)
        self.history = History(config) if history is None else history
        self.outbox = Outbox(
            local_node.origin, local_node.epoch, self._network, local_node.sign, config.batch_bytes
        )
        self.sending = Flow(config, self.outbox, self._links, effects)
        self._conflict = KeyConflict(config, effects)
        parents = Parents()
        self._repair = Repair(self.history, self._links, parents, config)
        self._push = Push(
            local_node.origin, self.history, self._links, parents, config, effects,
            lambda link, origin: self.membership.presences.introduce(link, origin),
        )  # fmt: skip
        self._patience = Patience(config, self.history, self._repair, self._push)
        self._frontier = Frontier(
            config, self.history, self.outbox, self._repair, self._push, self._patience, effects,
            self.sending.announced, settled,
        )  # fmt: skip
        self._inbound = Inbound(
            local_node, self.history, self.outbox, self._conflict, self._repair, self._push, effects,
            self._watch_holes,
            lambda link, origin, now: self.membership.presences.may_bring(link, origin, now),
            lambda run, first, entries: self.reverse.delivered(run, first, entries),
            lambda gap, now: self.reverse.gap(gap, now),
        )  # fmt: skip
        self.roster = Roster(config)
        self.reverse = ReplyRouting(
            local_node, config, self._links, self.history, self.outbox, self.roster, self._push.parents,
            effects, lambda: self.membership.joined, lambda now: self.membership.speak(now),
        )  # fmt: skip
        self.membership = Neighbourhood(
            local_node, config, self._links, self.history, self.outbox, self._repair, self._push,
            self._inbound, self._conflict, effects,
            lambda number, reason, why: self._close(number, reason, why, self._now),
            self.roster, self.reverse, randomness,
        )  # fmt: skip
        self._unknown_frames = 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What follows from *event* at the time *now*."""
        effects, self._now = self._effects.begin(), now
        match event:
            case events.Received():
                self._on_received(event, now)
            case events.Arriving():
                self._on_arriving(event, now)
            case events.Accepted():  # every second event, and it makes nothing else due
                self._on_accepted(event, now)
                return effects
            case events.Publish():
                self._on_publish(event, now)
            case events.LinkOpened():
                self._on_opened(event, now)
            case events.SameKey():
                self._on_same_key(event, now)
            case events.LinkClosing():
                self._on_closing(event.link, event.reason, now)
            case events.LinkClosed():
                self._on_closing(event.link, Reason.LOST, now)
                self._forget(event.link, now)
            case events.DialFailed() | events.Known() | events.Moved():
                self.membership.handle(event, now)
            case events.Check():
                self.sending.check()
            case events.Leaving():
                self.membership.presences.announcing.leave(now)
                self.sending.part()
            case events.TimerFired():
                self._on_timer(event.timer, now)
            case _:
                self.reverse.handle(event, now)
        self._schedule_repair(now)
        self.membership.schedule()
        return effects

    @property
    def settled(self) -> bool:
        """Whether a snapshot has told this node where to start."""
        return self._frontier.settled

    @property
    def own(self) -> tuple[events.StreamId, int]:
        """The stream of its own messages, and the last of them that a neighbour has taken."""
        return self.outbox.run, self.outbox.taken

    @property
    def disowned(self) -> bool:
        """Whether the own key is used elsewhere, so that nothing more may be published."""
        return bool(self._conflict)

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored, or dropped for want of room (:data:`DROPPED`), so far, by name."""
        overlay = self.membership.overlay
        return {
            **self._inbound.counts,
            **self.membership.presences.counts,
            **self.reverse.counts,
            **({} if overlay is None else overlay.counts),
            "unknown_frames": self._unknown_frames,
        }

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            **self._links.footprint(),
            **self.history.footprint(),
            **self._push.footprint(),
            **self._repair.footprint(),
            **self._patience.footprint(),
            **self.membership.footprint(),
            **self.reverse.footprint(),
            "unsent_batches": len(self.outbox),
            "unsent_bytes": self.outbox.unsent_bytes,
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def _on_opened(self, event: events.LinkOpened, now: float) -> None:
        link, older = self._links.open(event, now)
        self.membership.proven(link, now)
        if not self._links.is_wanted(link):
            self._close(link.number, *self._why_double(link), now)
            return
        no_room = self.membership.opened(link, now)
        if no_room is not None:
            self._close(link.number, Reason.ROOM, no_room, now)
            return
        self._frontier.tell(link, older, event.settled, now)
        self.membership.tell(link, now)
        link.flow.measure(now, least=0)
        self._effects.send((link,), native.Ping(READ_SNAPSHOT))
        self._effects.set_timer(Timer.AGE, now + self._config.history_seconds / 10)

    def _on_same_key(self, event: events.SameKey, now: float) -> None:
        """Another node has the own key: only one of the two goes on, and both say so."""
        _, epoch = self.outbox.run
        self._effects.close(event.link, Reason.KEY, _SHARED)
        if event.epoch > epoch:
            self.membership.presences.met(event.epoch, now)
        elif event.epoch == epoch and not event.outgoing:
            self._effects.emit(
                events.EpochConflict(epoch)
            )  # one end alone, so that they differ from then on

    def _on_closing(self, number: int, reason: Reason, now: float) -> None:
        link = self._stop_feeding(number, reason, now)
        if link is not None:
            self._settle_double(link.peer.origin, now)

    def _settle_double(self, origin: bytes, now: float) -> None:
        for link in self._links.replaced(origin):
            outrun = self._links.is_outrun(link)
            why = (Reason.KEY, _SUCCEEDED) if outrun else (Reason.DUPLICATE, _DOUBLE)
            self._stop_feeding(link.number, why[0], now)
            self._effects.close(link.number, *why)

    def _why_double(self, link: Link) -> tuple[Reason, str]:
        """Why *link*, which is new, goes, of two to its node."""
        return (Reason.KEY, _OUTRUN) if self._links.is_outrun(link) else (Reason.DUPLICATE, _DOUBLE)

    def _stop_feeding(self, number: int, reason: Reason, now: float) -> Link | None:
        link, heir = self._links.close(number)
        if link is None:
            return None
        self.sending.ended(link, reason)
        if heir is not None:
            self._effects.emit(events.LinkUp(heir.number))
        for gone in self._links.gone(link):
            self._effects.emit(events.LinkDown(gone, reason))
        self._repair.link_gone(number, now)
        for run in self._push.parents.lost_with(number):
            asked = self._repair.parent_lost(run, now)
            if asked is not None:
                self._push.parents.note(run, 0, asked)
        self.membership.closed(link, reason, now)
        return link

    def _close(self, number: int, reason: Reason, detail: str, now: float) -> None:
        self._on_closing(number, reason, now)
        self._effects.close(number, reason, detail)

    def _forget(self, number: int, now: float) -> None:
        self._links.forget(number)
        self.membership.forgotten(number, now)

    def _now_told(self, link: Link, now: float, settles: bool = False) -> None:
        """The peer's frontier is here: the link is up, or the visit has begun."""
        link.frontier_received = True
        if settles:
            self.membership.settled_by = link.number
        if not link.closing:
            self._now_up(link, now)

    def _now_up(self, link: Link, now: float) -> None:
        if not link.is_exchange:
            relieved = self._links.up(link)
            self._effects.emit(events.LinkUp(link.number))
            if relieved is not None:
                self._effects.emit(events.LinkDown(relieved, Reason.DUPLICATE))
        self.membership.up(link, now)
        if not link.is_exchange:
            self._settle_double(link.peer.origin, now)
            self._effects.set_timer(Timer.COMPARE, now + self._config.compare_interval)

    # ── what comes in ───────────────────────────────────────────────────────────────

    def _on_received(self, event: events.Received, now: float) -> None:
        link = self._links.get(event.link)
        if link is None:  # closed by an earlier event of the same turn
            return
        link.received(now)
        try:
            for frame in event.frames:
                if not self._frontier.is_void:
                    self._on_frame(link, frame, now)
        except RemoteError as error:
            self._close(link.number, error.reason, error.detail, now)
            self._forget(link.number, now)

    def _on_arriving(self, event: events.Arriving, now: float) -> None:
        link = self._links.get(event.link)
        if link is not None:
            link.arriving(event, now)
            run = self._repair.arriving(link, now)
            if run is not None:
                self._push.under_way(link, run, now)

    def _on_frame(self, link: Link, frame: native.Frame, now: float) -> None:
        if not link.frontier_received and not self._may_come_early(frame):
            raise RemoteError(f"{type(frame).__name__} before the snapshot", Reason.ORDER)
        match frame:
            case native.SignedBatch():
                self._inbound.batch(link, frame, now)
            case native.Have():
                self._frontier.on_have(link, frame, now)
            case native.Want():
                self._push.wanted(link, frame, now)
            case native.Prune():
                self._push.pruned(link, frame)
            case SignedRecord(record=Presence() | Suspect()):
                self.membership.on_record(link, frame, now)
                self._watch_holes()
            case SignedRecord():
                self.reverse.on_direct(link, frame, now)
            case Receipts():
                self.reverse.on_receipts(link, frame, now)
            case RosterFrame():
                self._on_roster(link, frame, now)
            case ForwardJoin() | Shuffle() | ShuffleReply():
                self.membership.on_gossip(link, frame, now)
            case native.Snapshot():
                self._on_snapshot(link, frame, now)
            case native.Digest():
                self._on_digest(link, frame, now)
            case native.Whisper():
                self._inbound.whisper(link, frame)
            case native.Ping():
                self.sending.pinged(link, frame.token)
            case native.Pong():
                self.sending.answered(link, frame.token, now)
                self._push.measure(link, now)
                self._push.flowing(link, now)
            case native.Unknown():
                self._unknown_frames += 1
            case native.Intro() | native.Proof() | native.Bye():
                raise RemoteError(f"{type(frame).__name__} on an open link", Reason.ORDER)
            case _:
                assert_never(frame)

    def _may_come_early(self, frame: native.Frame) -> bool:
        """Whether *frame* may come before the peer's frontier.

        A record of the own key may, which says that it is used elsewhere: the link ends with that.
        """
        if isinstance(frame, SignedRecord) and isinstance(frame.record, Presence):
            return frame.record.origin == self.outbox.run[0]
        return isinstance(frame, _EARLY)

    def _on_snapshot(self, link: Link, frame: native.Snapshot, now: float) -> None:
        was_settled = self.settled
        if self._frontier.on_snapshot(link, frame, now):
            self._now_told(link, now, settles=not was_settled)
            self._frontier.claimed_by_snapshot(link, now)

    def _on_digest(self, link: Link, frame: native.Digest, now: float) -> None:
        if not link.frontier_received:
            if not link.frontier.compares:
                raise RemoteError("a digest where a snapshot was due", Reason.ORDER)
            self._now_told(link, now)
        self._frontier.on_digest(link, frame, now)

    def _on_roster(self, link: Link, frame: RosterFrame, now: float) -> None:
        if self.membership.on_roster(link, frame, now) and not link.closing:
            self._links.make_neighbour(link)
            self.membership.stays(link, now)
            if self._links.is_kept(link):
                self._now_up(link, now)
            else:
                self._close(link.number, *self._why_double(link), now)
        self._watch_holes()

    # ── what goes out ───────────────────────────────────────────────────────────────

    def _on_publish(self, event: events.Publish, now: float) -> None:
        self.membership.presences.announcing.announce_first(now)
        for signed in self.outbox.publish(event.entries, event.wall_ms):
            self.history.take(signed, now)
            self._push.publish(signed, now, follows=self.outbox.taken >= signed.batch.first - 1)
        self._inbound.tell_gaps(self.history.evict(now, self.outbox.run, self.outbox.taken), now)

    def _on_accepted(self, event: events.Accepted, now: float) -> None:
        link = self._links.get(event.link)
        if link is not None and not link.closing:
            self.sending.accepted(link, event.size)
            self._push.flowing(link, now)

    # ── timers ──────────────────────────────────────────────────────────────────────

    def _on_timer(self, timer: Timer, now: float) -> None:
        late = self._effects.fired(timer, now)
        match timer:
            case Timer.GAPS:
                self._give_up_holes(now)
                self._watch_holes()
            case Timer.ANNOUNCE:
                self._push.announce_owed()
            case Timer.REPAIR:
                pass  # what is due goes out after every event
            case Timer.COMPARE:
                links = [link for link in self._links.fed if link.up]
                if links:
                    self._effects.send(links, self._frontier.digest())
                    self._effects.set_timer(Timer.COMPARE, now + self._config.compare_interval)
            case Timer.AGE:
                self.history.age(now, self.outbox.run, self.outbox.taken)
                self._effects.set_timer(Timer.AGE, now + self._config.history_seconds / 10)
            case Timer.ROSTER:
                self.membership.on_roster_time(now, late)
                self._patience.tick(now)
                self._watch_holes()
            case Timer.OVERLAY:
                self.membership.on_overlay(now)
            case Timer.EXCHANGE:
                self.membership.on_exchange(now)
            case Timer.REVERSE:
                self.reverse.tick(now)
            case _:
                assert_never(timer)

    def _give_up_holes(self, now: float) -> None:
        self._patience.put_off(now)
        gaps = list(self.history.give_up(now, self._config.gap_patience))
        self._inbound.tell_gaps(gaps, now)
        # A neighbour that waits behind the hole may have the next one's messages, and claims none of them.
        behind = dict.fromkeys((gap.origin, gap.epoch) for gap, _ in gaps)
        self.membership.pull_from_all([run for run in behind if self.history.has_hole(run)], now)

    def _watch_holes(self) -> None:
        if not self._effects.is_set(Timer.GAPS):
            since = self.history.oldest_hole
            if since is not None:  # once set it looks at every hole when it fires
                self._effects.set_timer(Timer.GAPS, since + self._config.gap_patience)

    def _schedule_repair(self, now: float) -> None:
        if self._repair.wake is None:
            return
        for link, want in self._repair.due(now):
            if want.graft:
                link.push.lazy_by_us.pop(want.origin, None)
            self._effects.send((link,), want)
            self._push.measure(link, now, least=1)
        if self._repair.wake is not None:
            self._effects.set_timer(Timer.REPAIR, self._repair.wake)

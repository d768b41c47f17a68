"""A node: links, history, trees and repair composed into one function of events.

Contract: ``handle(event, now) -> effects``; ``now`` is seconds of any steady clock.  State is
committed before the effects are returned.  A peer that breaks the protocol gets a Close effect and
changes nothing else; any exception out of :meth:`Node.handle` is a fault of ours.

What comes in goes through :mod:`inbound` and :mod:`history`, out by :mod:`push`; what is missing is found
by :mod:`frontier` and got by :mod:`repair`; who is there and whose neighbour is :mod:`membership`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.flow import Flow
from twisted_mesh.core.broadcast.frontier import Frontier
from twisted_mesh.core.broadcast.inbound import Gaps, Handed, Inbound
from twisted_mesh.core.broadcast.joining import Joining
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Effect, Event, Holders, StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history import reader
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import Piece
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.link import READ_SNAPSHOT, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.membership import Membership
from twisted_mesh.core.membership.presence import News
from twisted_mesh.core.membership.roster import Entry
from twisted_mesh.core.overlay.neighbourhood import Neighbourhood
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.replies.replies import Replies
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.core.status import Status
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
_HELP_AFTER: Final = 1.0  # seconds a hole is left to the neighbours before others are asked (guess)
_EARLY = (native.Snapshot, native.Digest, native.Prune, native.Ping, native.Pong, native.Unknown)

#: Of :attr:`Node.counts` what a bound had dropped; the others were of no use.
DROPPED: Final = frozenset(
    {"no_room", "authors_waiting", "dropped_receipts", "dropped_directs", "dropped_walks"}
)


class Node:
    """The core of one run of one node.

    A node is entered by :meth:`handle` and seen by :meth:`status`.  The few questions besides are
    :meth:`room_for`, :meth:`holders`, :meth:`read`, :meth:`next_run`, :attr:`settled`,
    :attr:`has_key_conflict`, :attr:`counts` and :meth:`footprint`.  Nothing but the simulator and tests
    looks at its parts.

    :ivar history: what it holds; :ivar roster: all authors but this node.
    :ivar flow: the way out; :ivar replies: the way back; :ivar membership: who is there.
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
        network = native.network_digest(local_node.network.id)
        effects = self._effects = Effects((local_node.origin, local_node.epoch))
        parents = Parents()
        self._config = config
        self._links = links = Links(local_node, config)
        self.history = history = History(config) if history is None else history
        self.outbox = outbox = Outbox(
            local_node.origin, local_node.epoch, network, local_node.sign, config.batch_bytes
        )
        self.flow = Flow(config, outbox, links, effects)
        self._repair = repair = Repair(history, links, parents, config)
        self._push = push = Push(local_node.origin, history, links, parents, config, effects)
        self._patience = Patience(config, history, repair, push)
        self._joining = Joining(config, history, outbox, effects, settled)
        self._frontier = Frontier(history, outbox, self.flow, repair, push, self._patience)
        self.membership = Membership(local_node, config, links, outbox, push, effects)
        self.roster = self.membership.roster
        self._inbound = Inbound(
            local_node, history, outbox, repair, push, self.membership.admission, effects
        )
        self.replies = Replies(
            local_node, config, history, outbox, self.roster, Routes(links, parents, config), effects
        )
        self.neighbourhood = Neighbourhood(
            local_node, config, links, self.membership, repair, randomness, effects
        )
        self._unknown_frames = 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What follows from *event* at the time *now*."""
        effects = self._effects.begin()
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
                self.neighbourhood.handle(event, now)
            case events.Check():
                self.flow.check()
            case events.Leaving():
                self.membership.announcing.leave(now)
                self.flow.part()
            case events.TimerFired():
                self._on_timer(event.timer, now)
            case _:
                self._on_asking(event, now)
        self._end_links(now)
        self._schedule_repair(now)
        self.neighbourhood.schedule()
        if self.replies.wake is not None:
            self._effects.set_timer(Timer.REVERSE, self.replies.wake)
        return effects

    @property
    def settled(self) -> bool:
        """Whether a snapshot, or a store, has told this node where to start."""
        return self._joining.settled

    @property
    def has_key_conflict(self) -> bool:
        """Whether the own key is used elsewhere, so that nothing more may be published."""
        return bool(self.membership.conflict)

    def status(self) -> Status:
        """Where this node stands."""
        flow, outbox = self.flow, self.outbox
        return Status(
            stream=outbox.run,
            sent=outbox.head,
            taken=outbox.taken,
            confirmed=outbox.confirmed,
            congested=flow.congested,
            given_to_all=flow.is_given_to_all(),
            has_left=flow.has_parted() and self.replies.relay.is_empty,
            silent=flow.unanswered,
            unread=flow.unread,
            settled=self._joining.settled,
            joined=self.membership.joined,
        )

    def room_for(self, size: int) -> bool:
        """Whether there is room for *size* bytes of own messages; if not, Drained follows once there is."""
        return self.flow.room_for(size)

    def holders(self, sequence: int) -> Holders | None:
        """The nodes that have the own message *sequence*; None if its receipt is not open."""
        return self.replies.holders(sequence)

    def read(self, run: StreamId, after: int, upto: int, most: int) -> Iterator[Piece | Missing]:
        """What is held of *run* behind *after* (:func:`twisted_mesh.core.history.reader.read`).

        :raises StoreError: it cannot be read now.
        """
        return reader.read(self.history, run, after, upto, most)

    def next_run(self, local_node: LocalNode, randomness: Randomness) -> tuple[Node, list[bytes]]:
        """The core of a new run, and the messages that become its own.

        If this run is not settled, a node can have its messages by accident alone: those that no neighbour
        has taken become the new run's.  Else all stay in this run and are held for others, as after a
        restart.
        """
        outbox, history, settled = self.outbox, self.history, self._joining.settled
        unsent = [] if settled else outbox.unsent(history)
        if settled:
            history.taken_of_earlier(outbox.run, outbox.taken)
        else:
            history.discard(outbox.run)  # its messages are the new run's now
        node = Node(local_node, self._config, randomness, history, settled)
        node.flow.congested = self.flow.congested and not settled  # Drained is still waited for
        return node, unsent

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored, or dropped for want of room (:data:`DROPPED`), so far, by name."""
        overlay = self.neighbourhood.overlay
        return {
            **self._inbound.counts,
            **self.membership.counts,
            **self.replies.counts,
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
            **self.roster.footprint(),
            **self.neighbourhood.footprint(),
            **self.replies.footprint(),
            "unsent_batches": len(self.outbox),
            "unsent_bytes": self.outbox.unsent_bytes,
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def _on_opened(self, event: events.LinkOpened, now: float) -> None:
        link, older = self._links.open(event, now)
        self.neighbourhood.proven(link, now)
        if not self._links.is_wanted(link):
            self._close(link.number, *self._why_double(link), now)
            return
        no_room = self.neighbourhood.opened(link, now)
        self._end_links(now)
        if no_room is not None:
            self._close(link.number, Reason.ROOM, no_room, now)
            return
        link.frontier.compares = event.settled and link.peer.settled
        if link.frontier.compares:
            self._effects.send((link,), self._frontier.digest())
        else:
            self._joining.tell(link, older, now)
        self.membership.tell(link, self.neighbourhood.vote(link), now)
        link.flow.measure(now, least=0)
        self._effects.send((link,), native.Ping(READ_SNAPSHOT))
        self._effects.set_timer(Timer.AGE, now + self._config.history_seconds / 10)

    def _on_same_key(self, event: events.SameKey, now: float) -> None:
        """Another node has the own key: only one of the two goes on, and both say so."""
        _, epoch = self.outbox.run
        self._effects.close(event.link, Reason.KEY, _SHARED)
        if event.epoch > epoch:
            self.membership.met(event.epoch, now)
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
        self.flow.ended(link, reason)
        if heir is not None:
            self._effects.emit(events.LinkUp(heir.number))
        for gone in self._links.gone(link):
            self._effects.emit(events.LinkDown(gone, reason))
        self._repair.link_gone(number, now)
        for run in self._push.parents.lost_with(number):
            asked = self._repair.parent_lost(run, now)
            if asked is not None:
                self._push.parents.note(run, 0, asked)
        if reason in (Reason.DUPLICATE, Reason.KEY):
            self.membership.outdated(link)
        if not link.is_exchange:
            self.replies.closed(link, now)
        self.neighbourhood.closed(link, reason, now)
        if not link.is_exchange:
            self.membership.closed(link, reason, now)
        return link

    def _close(self, number: int, reason: Reason, detail: str, now: float) -> None:
        self._on_closing(number, reason, now)
        self._effects.close(number, reason, detail)

    def _end_links(self, now: float) -> None:
        """End the links that a part wants ended."""
        for link, reason, why in self._effects.take_ending():
            if not link.closing:
                self._close(link.number, reason, why, now)

    def _forget(self, number: int, now: float) -> None:
        self._links.forget(number)
        if self._joining.settled_by == number:  # it has told all it will
            self._start(now)

    def _frontier_received(self, link: Link, now: float) -> None:
        """The peer's frontier is here: the link is up, or the exchange has begun."""
        link.frontier_received = True
        if not link.closing:
            self._now_up(link, now)

    def _now_up(self, link: Link, now: float) -> None:
        if not link.is_exchange:
            relieved = self._links.up(link)
            self._effects.emit(events.LinkUp(link.number))
            if relieved is not None:
                self._effects.emit(events.LinkDown(relieved, Reason.DUPLICATE))
        self.membership.up(link, now)
        if link.is_exchange:
            self._effects.emit(events.Visiting(link.number))
        self.neighbourhood.up(link, now)
        self._end_links(now)
        if not link.is_exchange:
            self.replies.up(link, now)
        self.neighbourhood.on_exchange(now)
        self._end_links(now)
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
                if not self._joining.is_void:
                    self._on_frame(link, frame, now)
                    self._end_links(now)
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
                self._on_batch(link, frame, now)
            case native.Have():
                self._frontier.on_have(link, frame, now)
            case native.Want():
                if self._push.wanted(link, frame):
                    self._answer(link, now)
            case native.Prune():
                self._push.pruned(link, frame)
            case SignedRecord(record=Presence() | Suspect()):
                self._on_record(link, frame, now)
            case SignedRecord():
                self.replies.on_direct(link, frame, now)
            case Receipts():
                self.replies.on_receipts(link, frame, now)
            case RosterFrame():
                self._on_roster(link, frame, now)
            case ForwardJoin() | Shuffle() | ShuffleReply():
                self.neighbourhood.on_gossip(link, frame, now)
            case native.Snapshot():
                self._on_snapshot(link, frame, now)
            case native.Digest():
                self._on_digest(link, frame, now)
            case native.Whisper():
                self._inbound.whisper(link, frame)
            case native.Ping():
                self.flow.pinged(link, frame.token)
            case native.Pong():
                self.flow.answered(link, frame.token, now)
                self._push.measure(link, now)
                self._answer(link, now)
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

    def _on_batch(self, link: Link, signed: native.SignedBatch, now: float) -> None:
        handed = self._inbound.batch(link, signed, now)
        if handed is None:
            return
        if signed.batch.origin == self.outbox.run[0] and signed.batch.epoch > self.outbox.run[1]:
            self.membership.conflict.published(signed.batch.epoch, now)
        self._hand_on(handed, now)
        self._keep_to_limits(now)
        self._watch_holes()

    def _on_snapshot(self, link: Link, frame: native.Snapshot, now: float) -> None:
        if self._joining.on_snapshot(link, frame, now):
            self._frontier_received(link, now)
            self._frontier.claimed_by_snapshot(link, now)

    def _on_digest(self, link: Link, frame: native.Digest, now: float) -> None:
        if not link.frontier_received:
            if not link.frontier.compares:
                raise RemoteError("a digest where a snapshot was due", Reason.ORDER)
            self._frontier_received(link, now)
        self._frontier.on_digest(link, frame, now)

    def _on_record(self, link: Link, signed: SignedRecord, now: float) -> None:
        news = self.membership.received(link, signed, now)
        if news is not None:
            self._on_news(news, now)
            self._evident(news.entry, now)
            self.neighbourhood.know([news.entry], link, now)
        self._watch_holes()

    def _on_roster(self, link: Link, frame: RosterFrame, now: float) -> None:
        entries = []
        for news in self.membership.on_roster(link, frame, now):
            self._on_news(news, now)
            entries.append(news.entry)
        for entry in entries:
            self._evident(entry, now)
        self.neighbourhood.know(entries, link, now)
        if frame.last:
            self._roster_received(link, frame.stay, now)
        self._watch_holes()

    def _roster_received(self, link: Link, vote: int, now: float) -> None:
        """The peer's roster is here: this node knows of the others, and an exchange may be kept."""
        if self._joining.settled_by == link.number:
            self._start(now)
        kept = self.neighbourhood.roster_received(link, vote)
        if (kept or link.up) and self.membership.now_joined():
            self.replies.joined()
        if kept and not link.closing:
            self._links.make_neighbour(link)
            self.neighbourhood.kept(link, now)
            if self._links.is_kept(link):
                self._now_up(link, now)
            else:
                self._close(link.number, *self._why_double(link), now)

    # ── what one part's news is to others ───────────────────────────────────────────

    def _hand_on(self, handed: Iterable[Handed], now: float) -> None:
        """What went to the application may ask for a receipt."""
        for item in handed:
            self.replies.handed(item, now)

    def _pass_gaps(self, gaps: Gaps, now: float) -> None:
        """Messages are given up, and their streams go on behind them."""
        for gap, behind in gaps:
            self._hand_on(self._inbound.gap(gap, behind, now), now)

    def _keep_to_limits(self, now: float) -> None:
        """Give up what is beyond the limits: a record alone opens a stream, and no batch need ever come."""
        self._pass_gaps(self.history.evict(now, self.outbox.run, self.outbox.taken), now)

    def _on_news(self, news: News, now: float) -> None:
        """There is a newer record of an author."""
        if news.is_guest_now:
            self.replies.forgotten(news.entry)
        if news.is_back:
            self.replies.returned(news.entry.presence.origin, now)

    def _start(self, now: float) -> None:
        """The first neighbour has told all."""
        self._joining.settled_by = None
        for entry in self.roster:
            presence = entry.presence
            entry.at_join = presence.epoch, presence.sequence
            self._joining.start((presence.origin, presence.epoch), presence.sequence, now)
            self.replies.evident(presence, now)
        self._keep_to_limits(now)

    def _evident(self, entry: Entry, now: float) -> None:
        """The newest record of an author says how far its stream has come."""
        if self._joining.settled_by is not None:
            return  # until the first neighbour has told all
        presence = entry.presence
        run = (presence.origin, presence.epoch)
        lowered = self._joining.lowered(run, presence.sequence, entry.at_join)
        if lowered is not None:
            self._pass_gaps([lowered], now)
            self._repair.ask_again(run, now)
        self.history.hinted(run, presence.sequence, now)
        self.replies.evident(presence, now)
        self._keep_to_limits(now)

    # ── what goes out ───────────────────────────────────────────────────────────────

    def _on_publish(self, event: events.Publish, now: float) -> None:
        self.membership.announcing.announce_first(now)
        for signed in self.outbox.publish(event.entries, event.wall_ms):
            self.history.take(signed, now)
            self._push.publish(signed, now, follows=self.outbox.taken >= signed.batch.first - 1)
            self._effects.emit(events.Numbered(self.outbox.run, signed.batch.first, signed.batch.count))
        self._keep_to_limits(now)

    def _on_asking(self, event: events.Asking, now: float) -> None:
        if isinstance(event, events.SendDirect):
            self.membership.announcing.announce_first(now)  # where nobody has a record of it, it is dropped
        self.replies.handle(event, now)
        self.membership.announcing.asks = self.replies.asks

    def _on_accepted(self, event: events.Accepted, now: float) -> None:
        link = self._links.get(event.link)
        if link is not None and not link.closing:
            self.flow.accepted(link, event.size)
            self._answer(link, now)

    def _answer(self, link: Link, now: float) -> None:
        """Answer what the peer asked for, as far as the link takes it, each author's record first."""
        while (want := self._push.next_wanted(link, now)) is not None:
            self.membership.records.introduce(link, want.origin)
            self._push.answer(link, want, now)

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
                self._on_roster_time(now, late)
                self._patience.tick(now)
                self._watch_holes()
            case Timer.OVERLAY:
                self.neighbourhood.on_overlay(now)
            case Timer.EXCHANGE:
                self.neighbourhood.on_exchange(now)
            case Timer.REVERSE:
                self.replies.tick(now)
            case _:
                assert_never(timer)

    def _give_up_holes(self, now: float) -> None:
        self._patience.put_off(now)
        gaps = list(self.history.give_up(now, self._config.gap_patience))
        self._pass_gaps(gaps, now)
        # A neighbour that waits behind the hole may have the next one's messages, and claims none of them.
        behind = dict.fromkeys((gap.origin, gap.epoch) for gap, _ in gaps)
        self._repair.pull_from_all([run for run in behind if self.history.has_hole(run)], now)

    def _on_roster_time(self, now: float, late: float) -> None:
        """See who was not heard of, and what nobody here has."""
        for entry in self.membership.tick(now, late):
            self.replies.forgotten(entry)
        for entry in self.roster.silent(now):
            if not self._repair.is_slowed(entry.presence.origin, now):
                self._repair.parent_lost((entry.presence.origin, entry.presence.epoch), now)
        missing = [
            run
            for run, since in self.history.holes()
            if since + _HELP_AFTER <= now and not self._repair.is_pulled(run, now)
        ]
        self._repair.pull_from_all(self.neighbourhood.help(missing, now), now)
        self.neighbourhood.meet_other(now)

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

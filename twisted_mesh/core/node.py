"""A node: composes the rooms of the core, and gives each event and each frame to the part that handles it.

Contract: ``handle(event, now) -> effects``; ``now`` is in seconds of any monotonic clock.  The state is
changed before the effects are returned.  A frame that breaks the protocol causes a Close effect and no
other change.  Any other exception from :meth:`Node.handle` is a bug of this package.

No room calls a room above it.  It returns the values that concern other rooms, and the node passes them on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.admission import Admission, may_come_early
from twisted_mesh.core.broadcast.broadcast import Broadcast
from twisted_mesh.core.broadcast.inbound import Outcome
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Behind, Effect, Event, Holders, StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history import reader
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import Messages
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.history.ways import Way
from twisted_mesh.core.link import READ_ALL, Link
from twisted_mesh.core.link_life import LinkLife
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.keepalive import Keepalive
from twisted_mesh.core.membership.membership import Membership
from twisted_mesh.core.membership.presence import News
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.overlay.neighbourhood import Neighbourhood
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.replies.replies import Replies
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.core.shares import Kind, Shares
from twisted_mesh.core.status import HeldRun, Report, Status
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.network import Cuts
from twisted_mesh.wire import codec
from twisted_mesh.wire.authority import MAX_CUTS, Grant, Policy
from twisted_mesh.wire.broadcast import Digest, Have, Headers, Prune, SignedBatch, Snapshot, Want
from twisted_mesh.wire.link import Bye, Certificate, Intro, Knock, Ping, Pong, Proof, Unknown, Whisper
from twisted_mesh.wire.membership import (
    Forget,
    ForwardJoin,
    Presence,
    Records,
    Shuffle,
    ShuffleReply,
    Suspect,
)
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.replies import Direct, DirectAck, DirectKey, Receipts
from twisted_mesh.wire.signed import SignedRecord

_TOO_MANY: Final = "the most claims of all links, of which there are too many"
#: The names in :attr:`Node.counts` of frames dropped for lack of room; the other frames were of no use.
DROPPED: Final = frozenset(
    {"no_room", "over_share", "authors_waiting", "dropped_receipts", "dropped_directs", "dropped_walks"}
)


class Node:
    """The core of one run of one node.

    The driver gives it events by :meth:`handle`, and reads its state by :meth:`status`.  The driver may
    also ask :meth:`report`, :attr:`run`, :meth:`origin_of`, :meth:`ends`, :meth:`room_for`, :attr:`room`,
    :meth:`head`, :meth:`way`, :meth:`holders`, :meth:`missed_by`, :meth:`read`, :meth:`held`,
    :meth:`held_runs`, :meth:`next_run`, :attr:`settled`, :attr:`has_key_conflict`, :attr:`is_over`,
    :attr:`counts` and :meth:`footprint`.  Only the simulator and tests look at its parts.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        randomness: Randomness,
        history: History | None = None,
        settled: bool = False,
    ) -> None:
        """:param settled: whether *history* has a base for each stream already."""
        effects = self._effects = Effects((local_node.origin, local_node.epoch))
        links = self._links = Links(local_node, config)
        self._keepalive = Keepalive(links, effects, config)
        self._config = config
        self._policy = local_node.policy
        self._unknown_frames = 0
        self.history = History(config) if history is None else history
        self.roster = roster = Roster(config)
        authors = self.history.authors
        shares = self._shares = Shares(local_node, roster, authors, links, effects, config)
        admission = self._admission = Admission(local_node, roster, authors, shares, config)
        self._broadcast = broadcast = Broadcast(
            local_node, config, links, self.history, admission, effects, settled
        )
        self.outbox, self.outflow = broadcast.outbox, broadcast.outflow
        self.membership = Membership(local_node, config, links, broadcast, roster, admission, effects)
        self.neighbourhood = Neighbourhood(local_node, config, links, self.membership, randomness, effects)
        routes = Routes(links, broadcast.parents, config)
        self.replies = Replies(local_node, config, self.history, broadcast.outbox, roster, routes, effects)
        self._link_life = LinkLife(
            links, broadcast, self.membership, self.neighbourhood, self.replies, effects
        )
        list(self.history.cut(self._cuts(), None))  # what it yields was told when the policy came

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in *event* at the time *now*; return the effects to carry out."""
        effects = self._effects.begin()
        match event:
            case events.Received():
                self._on_received(event, now)
            case events.Arriving():
                self._on_arriving(event, now)
            case events.Accepted():  # half of all events; nothing is due after it, so the rest is left out
                self._on_accepted(event, now)
                return effects
            case events.Flowing() | events.Resumed():
                self._keepalive.handle(event, now)
                return effects
            case events.Publish():
                self._on_publish(event, now)
            case events.LinkOpened():
                self._keepalive.begin(now)
                self._link_life.opened(event, now)
            case events.SameKey():
                self.membership.same_key(event, now)
            case events.LinkClosing():
                self._link_life.closing(event.link, event.reason, now)
            case events.LinkClosed():
                self._link_life.closing(event.link, Reason.LOST, now)
                self._forget(event.link, now)
            case events.DialFailed() | events.Known() | events.Moved():
                self.neighbourhood.handle(event, now)
            case events.PolicyChanged():
                self._on_policy_changed(now)
            case events.PolicyGiven():
                self._on_policy(event.packed, None, now)
            case events.Check():
                self.outflow.check()
            case events.ForgetMember():
                if (author := self.membership.forgetting.ask(event.origin, now)) is not None:
                    self.replies.dropped(author)
            case events.Leaving():
                self.membership.announcing.leave(now, event.retires)
                self._broadcast.push.leave()  # before the PING, whose answer lets this node go
                self.outflow.leave()
            case events.TimerFired(timer=Timer.TURN):  # as after Accepted: 10 us less (measured)
                self.replies.directs.end_turn(now)
                self._schedule_replies()
                return effects
            case events.TimerFired():
                self._on_timer(event.timer, now)
            case _:
                self._on_asking(event, now)
        self._link_life.end_links(now)
        self._broadcast.schedule(now)
        self.neighbourhood.schedule()
        self._schedule_replies()
        return effects

    def _schedule_replies(self) -> None:
        if (wake := self.replies.wake) is not None:
            self._effects.set_timer(Timer.REPLIES, wake)

    @property
    def settled(self) -> bool:
        """Whether the node has a base: a snapshot or a store said where each stream begins."""
        return self._broadcast.joining.knows_bases

    @property
    def has_key_conflict(self) -> bool:
        """Whether another node uses this node's key, so that this node publishes nothing."""
        return bool(self.membership.conflict)

    @property
    def is_over(self) -> bool:
        """Whether another node has signed in this run, so that a new one must begin first of all."""
        return bool(self.membership.renewal)

    @property
    def run(self) -> StreamId:
        """The stream of this node."""
        return self.outbox.run

    def status(self) -> Status:
        """The state of this node."""
        outflow, outbox = self.outflow, self.outbox
        return Status(
            stream=outbox.run,
            sent=outbox.head,
            accepted=outbox.accepted,
            confirmed=outbox.confirmed,
            congested=outflow.congested,
            given_to_all=outflow.is_given_to_all(),
            has_left=outflow.has_left() and self.replies.relay.is_empty,
            silent=outflow.unanswered,
            unread=outflow.unread,
            settled=self.settled,
            joined=self.membership.joined,
        )

    def report(self) -> Report:
        """The links and streams of this node, for people who look at it."""
        oldest = filter(None, (stream.batches.oldest() for stream in self.history))
        return Report(
            tuple(link.report() for link in self._links.all),
            tuple(stream.report() for stream in self.history),
            self.history.held_bytes,
            min((came for came, _ in oldest), default=None),
        )

    def origin_of(self, id: bytes) -> bytes | None:
        """The key of the node *id*, if messages of it are held."""
        return self.history.origin_of(id)

    def ends(self, origin: bytes) -> list[tuple[int, int, bytes]]:
        """The newest runs of *origin*, as many as a policy may name: epoch, head, and the header's hash."""
        return list(islice(self.history.ends(origin), MAX_CUTS))

    def room_for(self, size: int) -> bool:
        """Whether there is room for *size* bytes of own messages; if not, Drained follows later."""
        return self.outflow.room_for(size)

    @property
    def room(self) -> int:
        """How many bytes of own messages there is room for until the next event."""
        return self.outflow.room

    def head(self, run: StreamId) -> int:
        """The last message of *run* that was delivered, or given up; 0 if the run is not known."""
        return self.history.head(run)

    def way(self, run: StreamId, sequence: int) -> tuple[Way | None, float | None]:
        """By which way a message came, and when the application had taken it; None if that is forgotten."""
        return self._broadcast.push.ways.of(run, sequence)

    def holders(self, sequence: int) -> Holders | None:
        """The nodes that have the own message *sequence*; None if its receipt is not open."""
        return self.replies.holders(sequence)

    def missed_by(self, member: bytes) -> Sequence[int]:
        """The own messages that *member* has missed and whose receipts are open."""
        return self.replies.missed_by(member)

    def read(self, run: StreamId, after: int, upto: int, most: int) -> Iterator[Messages | Missing]:
        """The held messages of *run* behind *after* (``history.reader``); StoreError if the store fails."""
        return reader.read(self.history, run, after, upto, most)

    def held(self, seconds: float, now: float) -> list[Behind]:
        """The runs of which messages are held that came in the last *seconds*: those behind ``taken``."""
        return list(reader.held(self.history, seconds, now))

    def held_runs(self, now: float) -> list[HeldRun]:
        """The runs of which messages are held."""
        return list(reader.held_runs(self.history, now))

    def next_run(self, local_node: LocalNode, randomness: Randomness) -> tuple[Node, list[bytes]]:
        """The core of a new run, and the messages to publish in it again.

        If this run is not settled, hardly any node has its messages: the messages that no transport has
        accepted are published in the new run.  Otherwise all stay in this run, held for others.
        """
        outbox, history, settled = self.outbox, self.history, self.settled
        stays = settled and self.membership.conflict.floor <= outbox.run[1]
        unsent = [] if stays else outbox.unsent(history)
        if stays:
            history.accepted_of_earlier(outbox.run, outbox.accepted)
        else:
            history.discard(outbox.run)  # its unsent messages are published in the new run
        node = Node(local_node, self._config, randomness, history, settled)
        node.outflow.congested = self.outflow.congested and bool(unsent)  # so that Drained still follows
        node.membership.renewal.follow(self.membership.renewal)
        node._broadcast.joining.believes_claims = False
        return node, unsent

    @property
    def counts(self) -> dict[str, int]:
        """How much was ignored, or dropped for lack of room (:data:`DROPPED`), so far, by name."""
        overlay = self.neighbourhood.overlay
        return {
            **self._broadcast.inbound.counts,
            **self.membership.counts,
            **self.replies.counts,
            **({} if overlay is None else overlay.counts),
            "over_share": self._shares.refused,
            "unknown_frames": self._unknown_frames,
        }

    def footprint(self) -> dict[str, int]:
        """The entries and bytes of every table, by name."""
        return {
            **self._links.footprint(),
            **self._broadcast.footprint(),
            **self.membership.footprint(),
            **self._admission.footprint(),
            **self._shares.footprint(),
            **self.neighbourhood.footprint(),
            **self.replies.footprint(),
        }

    # ── frames ──────────────────────────────────────────────────────────────────────

    def _on_received(self, event: events.Received, now: float) -> None:
        link = self._links.get(event.link)
        if link is None:  # an earlier event of the same turn has closed it
            return
        link.received(now)
        try:
            for frame in event.frames:
                if not self._broadcast.joining.is_void:
                    self._on_frame(link, frame, now)
                    self._link_life.end_links(now)
        except RemoteError as error:
            self._link_life.close(link.number, error.reason, error.detail, now)
            self._forget(link.number, now)

    def _bound_claims(self, link: Link, now: float) -> None:
        """Keep what peers claim unsigned within ``claims_in_all``, over all links.

        The link with the most claims forgets half of them, or is closed.

        :raises RemoteError: that link is *link*, and is to be closed.
        """
        known = self.history.open_streams + len(self.roster)
        while (largest := self._links.bound_claims(link, known)) is not None:
            if largest is link:
                raise RemoteError(_TOO_MANY, Reason.LIMIT)
            if not largest.closing:
                self._link_life.close(largest.number, Reason.LIMIT, _TOO_MANY, now)
            self._forget(largest.number, now)

    def _on_arriving(self, event: events.Arriving, now: float) -> None:
        if (link := self._links.get(event.link)) is not None:
            link.arriving(event, now)
            self._broadcast.arriving(link, now)

    def _on_frame(self, link: Link, frame: codec.Frame, now: float) -> None:
        if not link.frontier_received and not may_come_early(frame, self.outbox.run[0]):
            raise RemoteError(f"{type(frame).__name__} before the snapshot", Reason.ORDER)
        match frame:
            case SignedBatch():
                self._on_batch(link, frame, now)
            case Have():
                self._broadcast.frontier.on_have(link, frame, now)
                self._bound_claims(link, now)
            case Want():
                before = len(link.push.wants)
                if self._broadcast.push.wanted(link, frame):
                    self._answer(link, now)
                    if len(link.push.wants) > before:
                        self._bound_claims(link, now)
            case Headers():
                self._broadcast.frontier.on_headers(link, frame, now)
            case Records():
                self._on_records(link, frame, now)
            case Policy():
                self._on_policy(frame.packed, link, now)
            case Prune():
                link.push.pruned(frame.origins)
                self._bound_claims(link, now)
            case SignedRecord(record=record):
                match record:
                    case Presence() | Suspect() | Forget():
                        self._on_record(link, frame, now)
                    case Direct() | DirectAck() | DirectKey():
                        self._on_direct(link, frame, now)
                    case _:
                        assert_never(record)
            case Receipts():
                self.replies.on_receipts(link, frame, now)
            case RosterFrame():
                self._on_roster(link, frame, now)
            case ForwardJoin() | Shuffle() | ShuffleReply():
                self.neighbourhood.on_gossip(link, frame, now)
            case Snapshot():
                self._on_snapshot(link, frame, now)
                self._bound_claims(link, now)
            case Digest():
                self._on_digest(link, frame, now)
            case Whisper():
                if self._admission.takes_direct(link.peer.origin):
                    self._broadcast.inbound.whisper(link, frame)
            case Ping():
                # The peer, which leaves, ends the link when it has the answer.
                if frame.token == READ_ALL and not link.flow.peer_leaves:
                    self._broadcast.last_pull(link, now)
                self.outflow.pinged(link, frame.token)
            case Pong():
                self._on_pong(link, frame, now)
            case Unknown():
                self._unknown_frames += 1
            case Knock() | Intro() | Grant() | Certificate() | Proof() | Bye():
                raise RemoteError(f"{type(frame).__name__} on an open link", Reason.ORDER)
            case _:
                assert_never(frame)

    def _on_pong(self, link: Link, frame: Pong, now: float) -> None:
        link.life.answered_at = now
        meter = link.flow.meter
        was_waiting = meter.is_waiting
        self.outflow.answered(link, frame.token, now)
        has_read = was_waiting and not meter.is_waiting and not link.closing  # other PONGs say no more
        if has_read:
            self._broadcast.push.catch_up(link, self.outbox.run, now)
        self._broadcast.push.lines.measure(link, now)
        self._answer(link, now)
        if has_read:
            self.membership.records.push_owed(link, now)

    def _on_batch(self, link: Link, signed: SignedBatch, now: float) -> None:
        if (delivered := self._broadcast.inbound.batch(link, signed, now)) is None:
            return
        if signed.batch.origin == self.outbox.run[0] and signed.batch.epoch > self.outbox.run[1]:
            self.membership.conflict.published(signed.batch.epoch, now)
        self._delivered(delivered, now)
        self._delivered(self._broadcast.evict(now), now)
        self._broadcast.watch_holes()

    def _on_snapshot(self, link: Link, frame: Snapshot, now: float) -> None:
        if self._broadcast.joining.on_snapshot(link, frame, now):
            self._link_life.frontier_received(link, now)
            self._broadcast.frontier.claimed_by_snapshot(link, now)

    def _on_digest(self, link: Link, frame: Digest, now: float) -> None:
        if not link.frontier_received:
            if not link.frontier.compares:
                raise RemoteError("a digest where a snapshot was due", Reason.ORDER)
            self._link_life.frontier_received(link, now)
        self._broadcast.frontier.on_digest(link, frame, now)

    def _on_record(self, link: Link, signed: SignedRecord, now: float) -> None:
        if not isinstance(signed.record, Forget):
            self._on_news_of(self.membership.received(link, signed, now), link, now)
        elif (gone := self.membership.forgetting.received(link, signed, signed.record, now)) is not None:
            self.replies.forgotten(gone)

    def _on_news_of(self, news: News | None, link: Link, now: float) -> None:
        """Take in the record that *link* brought, if it is newer than the known one."""
        if news is not None:
            self._on_news(news, now)
            self._evident(news.author, now)
            self._admitted(news.author.presence.origin, now)
            self.neighbourhood.know([news.author], link, now)
        self._broadcast.watch_holes()

    def _on_records(self, link: Link, frame: Records, now: float) -> None:
        for origin, news in self.membership.on_records(link, frame, now):
            if news is None:
                self._admitted(origin, now)
            else:
                self._on_news_of(news, link, now)

    def _on_direct(self, link: Link, signed: SignedRecord, now: float) -> None:
        directs, shares, author = self.replies.directs, self._shares, signed.record.signer
        if isinstance(signed.record, Direct) and not self._admission.takes_direct(author):
            return
        copy = directs.is_copy(signed.record)
        if not copy and not shares.may_bring(link, author, Kind.DIRECT, now):
            return
        if not directs.verify(link, signed, now, copy=copy):
            return
        if not copy:
            messages = signed.record.count if isinstance(signed.record, Direct) else 0
            shares.took(link, author, Kind.DIRECT, now, len(signed.array), messages)
        answer = directs.received(link, signed, now)
        if isinstance(answer, Direct):
            self.membership.announcing.announce_first(now)
            if (own := self.membership.records.own) is not None:
                directs.tell_key(link, answer, own)
        elif answer is not None:
            self._on_news_of(self.membership.answered(link, answer, now), link, now)

    def _on_roster(self, link: Link, frame: RosterFrame, now: float) -> None:
        authors = []
        for news in self.membership.on_roster(link, frame, now):
            self._on_news(news, now)
            authors.append(news.author)
        for author in authors:
            self._evident(author, now)
            self._admitted(author.presence.origin, now)
        self.neighbourhood.know(authors, link, now)
        if frame.last:
            self._roster_received(link, frame.vote, now)
        self._broadcast.watch_holes()

    def _roster_received(self, link: Link, vote: int, now: float) -> None:
        """Take in that all of the peer's roster has come: an exchange may become a link of neighbours."""
        if self._broadcast.joining.settled_by == link.number:
            self._start(now)
        kept = self.neighbourhood.roster_received(link, vote, now)
        if (kept or link.up) and self.membership.now_joined():
            self.replies.joined()
        if kept and not link.closing:
            self._link_life.kept(link, now)

    def _forget(self, number: int, now: float) -> None:
        """Forget a link over which nothing more comes."""
        self._links.forget(number)
        self._broadcast.inbound.waiting.link_gone(number)  # the batches that came while it ended
        if self._broadcast.joining.settled_by == number:  # it will send no more of its roster
            self._start(now)

    # ── from one part to others ─────────────────────────────────────────────────────

    def _delivered(self, items: Iterable[Outcome], now: float) -> None:
        """Let messages and gaps that went to the application lead to receipts."""
        for item in items:
            self.replies.delivered(item, now)

    def _on_news(self, news: News, now: float) -> None:
        """Take in that there is a newer record of an author."""
        if news.is_guest_now:
            self.replies.forgotten(news.author)
        if news.is_back:
            self.replies.issuer.returned(news.author.presence.origin, now)

    def _start(self, now: float) -> None:
        """Begin all streams of the roster, since the first neighbour has sent its frontier and roster."""
        records = [author.presence for author in self.roster]
        self._delivered(self._broadcast.start(records, now), now)
        for presence in records:
            self.replies.evident(presence, now)
        self._delivered(self._broadcast.evict(now), now)

    def _evident(self, author: Author, now: float) -> None:
        """Take in the newest record of an author, which says how far its stream has come."""
        if self._broadcast.joining.settled_by is None:  # otherwise _start() does this later
            self._delivered(self._broadcast.recorded(author.presence, now), now)
            self.replies.evident(author.presence, now)
            self._delivered(self._broadcast.evict(now), now)

    def _admitted(self, origin: bytes, now: float) -> None:
        """Take in the batches that waited for the record of *origin*."""
        for number, signed in self._broadcast.inbound.waiting.take(origin):
            link = self._links.get(number)
            assert link is not None  # _forget() drops the batches of a link with it
            self._on_batch(link, signed, now)

    # ── from the application, and to the transport ──────────────────────────────────

    def _on_publish(self, event: events.Publish, now: float) -> None:
        self.membership.announcing.announce_first(now)
        self._shares.waits(self.outbox.run[0], now)
        self._broadcast.publish(event, now)
        self._delivered(self._broadcast.evict(now), now)

    def _on_asking(self, event: events.Asking, now: float) -> None:
        if isinstance(event, events.Taken):
            self._broadcast.push.ways.taken(event.run, event.slowest, now)
        elif isinstance(event, events.SendDirects):
            self.membership.announcing.announce_first(now)  # messages of unknown authors are dropped
        self.replies.handle(event, now)
        self.membership.announcing.asks = self.replies.asks

    def _on_policy(self, packed: bytes, link: Link | None, now: float) -> None:
        """Take in a policy of the mesh's authority, which *link* has brought, or the application."""
        if self._policy.take(packed):
            self.membership.records.flood_policy(packed, link)
            self._effects.emit(events.PolicyTaken())
            self._apply_policy(now)  # the own credential is the same, so all nodes need not show theirs now

    def _cut(self, now: float) -> None:
        """Hold nothing beyond the ends of the runs of removed nodes, and say if more was delivered."""
        cuts = self._cuts()
        for (origin, epoch), first, last in self.history.cut(cuts, now):
            self._effects.emit(events.CutShort(origin, epoch, first, last))
        for origin in cuts:
            self._admitted(origin, now)
        self._broadcast.watch_holes()

    def _cuts(self) -> dict[bytes, Cuts]:
        """The ends of the runs of other nodes that were removed."""
        own = self.outbox.run[0]
        return {origin: ends for origin, ends in self._policy.removed.items() if origin != own}

    def _on_policy_changed(self, now: float) -> None:
        """Go by the policy from now on, and show the own credential if it is a new one."""
        self._apply_policy(now)
        self.membership.announcing.show_credential(now)

    def _apply_policy(self, now: float) -> None:
        """End links and forget authors that the policy does not admit any more."""
        self._shares.policy_changed()
        self._cut(now)
        for author in self.membership.expel():
            self.replies.forgotten(author)
        for link in list(self._links.all):
            why = link.peer.why_not(self._policy)
            if why is not None and not link.closing:
                self._link_life.close(link.number, Reason.TRUST, why, now)
                self._forget(link.number, now)

    def _on_accepted(self, event: events.Accepted, now: float) -> None:
        if (link := self._links.get(event.link)) is not None and not link.closing:
            self.outflow.accepted(link, event.size)
            if link.presence.untold:
                self.membership.records.tell_on(link, now)
            self._answer(link, now)

    def _answer(self, link: Link, now: float) -> None:
        """Answer the peer's WANTs as far as the link accepts bytes; each author's record goes before."""
        while (want := self._broadcast.push.next_wanted(link, now)) is not None:
            self.membership.records.introduce(link, want.origin, now)
            self._broadcast.push.answer(link, want, now)

    # ── timers ──────────────────────────────────────────────────────────────────────

    def _on_timer(self, timer: Timer, now: float) -> None:
        late = self._effects.fired(timer, now)
        match timer:
            case Timer.GAPS:
                self._delivered(self._broadcast.give_up_holes(now), now)
                self._delivered(self._broadcast.evict(now), now)
                self._broadcast.watch_holes()
            case Timer.ANNOUNCE:
                self._broadcast.push.announce_owed(now)
            case Timer.ANSWER:
                for link in (*self._links.fed, *self._links.exchanges):
                    self._answer(link, now)
            case Timer.REPAIR | Timer.TURN:
                pass  # the WANTs that are due are sent after every event; handle() ends a turn
            case Timer.COMPARE:
                self._broadcast.compare(now)
            case Timer.AGE:
                self._broadcast.age(now)
                for run, last in list(self.history.passed_over()):
                    self.replies.handle(events.Skipped(run, last), now)
                self._delivered(self._broadcast.evict(now), now)
            case Timer.ROSTER:
                self._on_roster_time(now, late)
                self._broadcast.patience.tick(now)
                self._broadcast.watch_holes()
            case Timer.OVERLAY:
                self.neighbourhood.on_overlay(now)
            case Timer.EXCHANGE:
                self.neighbourhood.on_exchange(now)
            case Timer.REPLIES:
                self.replies.tick(now)
            case Timer.JOINING:
                if self._broadcast.joining.settled_by is not None:
                    self._start(now)  # without the roster of the first neighbour, which holds it back
            case Timer.KEEPALIVE:
                self._keepalive.look(late, now)
            case Timer.SHARES:
                self._shares.looked(late, now)
            case _:
                assert_never(timer)

    def _on_roster_time(self, now: float, late: float) -> None:
        """Look for members that are gone, and for messages that no neighbour has."""
        for author in self.membership.tick(now, late):
            self.replies.forgotten(author)
        for author in self.roster.silent(now):
            run = (author.presence.origin, author.presence.epoch)
            self._broadcast.overdue(run, author.sought - 1, now)
        sought = self.neighbourhood.help(self._broadcast.missing(now), now)
        self._broadcast.repair.pull_from_all(sought, now)
        self.neighbourhood.meet_other(now)

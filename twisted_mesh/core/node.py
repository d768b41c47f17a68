"""A node: links, history, trees and repair composed into one function of events.

Contract: ``handle(event, now) -> effects``; ``now`` is seconds of any steady clock.  State is
committed before the effects are returned.  A peer that breaks the protocol gets a Close effect and
changes nothing else; any exception out of :meth:`Node.handle` is a fault of ours.

What comes in goes through :mod:`intake` and :mod:`history`, out by :mod:`spread`; see :mod:`repair`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import compare, events, joining
from twisted_mesh.core.events import Close, Effect, Emit, Event, Run, Send, SetTimer, Timer
from twisted_mesh.core.handshake import Myself
from twisted_mesh.core.history import History
from twisted_mesh.core.intake import Intake
from twisted_mesh.core.links import DIGEST_PAUSE, RTT_MOST, Link, Links
from twisted_mesh.core.outbox import Outbox
from twisted_mesh.core.repair import Repair
from twisted_mesh.core.spread import Spread
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.native import Have, SignedBatch

_DOUBLE = "another link to this node is kept"
_CLAIM_AHEAD = 2**20  # messages a claim may go beyond signed evidence; more is a lie (protocol)


class Node:
    """The core of one run of one node.

    :ivar history: what it holds.
    :ivar settled: whether a snapshot has told this node where to start.
    :ivar congested: whether somebody was refused room and waits for Drained.
    """

    def __init__(
        self, myself: Myself, config: MeshConfig, history: History | None = None, settled: bool = False
    ) -> None:
        """
        :param history: what it holds to begin with; *settled*: whether it has a base for it.
        """
        self._myself = myself
        self._config = config
        self._network = native.network_digest(myself.network.id)
        self._effects: list[Effect] = []
        self._links = Links(myself, config)
        self.history = History(config) if history is None else history
        self._repair = Repair(self.history, self._links, config)
        self._spread = Spread(self.history, self._links, config, self._send, self._set_timer)
        self.outbox = Outbox(myself.origin, myself.epoch, self._network, myself.sign, config.batch_bytes)
        self.settled = settled
        self.congested = False
        self._intake = Intake(
            myself, self.history, self.outbox, self._repair, self._spread, self._effect, self._watch_holes
        )
        self._unknown_frames = 0
        self._timers: dict[Timer, float] = {}

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What follows from *event* at the time *now*."""
        effects: list[Effect] = []
        self._effects = effects
        match event:
            case events.Received():
                self._on_received(event, now)
            case events.Accepted():
                self._on_accepted(event, now)
            case events.Publish():
                self._on_publish(event, now)
            case events.LinkOpened():
                self._on_opened(event, now)
            case events.LinkClosing():
                self._on_closing(event.link, now)
            case events.LinkClosed():
                self._on_closing(event.link, now)
                self._links.forget(event.link)
            case events.TimerFired():
                self._on_timer(event.timer, now)
            case _:
                assert_never(event)
        self._schedule_repair(now)
        return effects

    @property
    def disowned(self) -> bool:
        """Whether the own key is used elsewhere, so that nothing more may be published."""
        return self._intake.disowned

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored or refused so far, by name."""
        return {**self._intake.counts, "unknown_frames": self._unknown_frames}

    def room_for(self, size: int) -> bool:
        """Whether *size* more bytes of own messages fit beside those no neighbour has."""
        if self.outbox.unsent_bytes + size <= self._config.unsent_bytes:
            return True
        self.congested = True  # from now on the outside waits for Drained
        return False

    def is_given_to_all(self) -> bool:
        """Whether every neighbour that gets own messages from here has been given all of them."""
        run = self.outbox.run
        return all(
            not link.up
            or run[0] in link.mute
            or (link.holds(run) >= self.outbox.head and not link.own_marks)
            for link in self._links.fed
        )

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            **self._links.footprint(),
            **self.history.footprint(),
            **self._spread.footprint(),
            **self._repair.footprint(),
            "unsent_batches": len(self.outbox),
            "unsent_bytes": self.outbox.unsent_bytes,
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def _on_opened(self, event: events.LinkOpened, now: float) -> None:
        link, older = self._links.open(event, now)
        if not self._links.is_kept(link):
            self._close(link.number, Reason.DUPLICATE, _DOUBLE, now)
            return
        link.compares = event.settled and event.peer.settled
        if link.compares:
            self._send((link,), compare.digest(self._heads()))
        else:
            # What went over an older link to the same node may still be on its way: a base that
            # counts it would, if it came first, make the newcomer take it for old.
            same = older is not None and older.peer.epoch == event.peer.epoch
            link.bases = older.bases if older is not None and same else None
            if link.bases is None:
                link.bases = joining.bases(self.history, self.outbox, event.peer.replay, now)
            for frame in joining.snapshot(self.history, link.bases):
                self._send((link,), frame)
        self._send((link,), native.Ping(0))
        link.opened = now
        self._set_timer(Timer.COMPARE, now + self._config.compare_interval)
        self._set_timer(Timer.AGE, now + self._config.history_seconds / 10)

    def _on_closing(self, number: int, now: float) -> None:
        link = self._stop_feeding(number, now)
        if link is not None:
            self._settle_double(link.peer.origin, now)

    def _settle_double(self, origin: bytes, now: float) -> None:
        for link in self._links.replaced(origin):
            self._stop_feeding(link.number, now)
            self._effects.append(Close(link.number, Reason.DUPLICATE, _DOUBLE))

    def _stop_feeding(self, number: int, now: float) -> Link | None:
        link, heir = self._links.close(number)
        if link is None:
            return None
        if heir is not None:
            self._emit(events.LinkUp(heir.number))
        for gone in self._links.gone(link):
            self._emit(events.LinkDown(gone))
        self._repair.link_gone(number, now)
        for run in self._spread.parents.orphaned(number):
            self._repair.orphaned(run, now)
        return link

    def _close(self, number: int, reason: Reason, detail: str, now: float) -> None:
        self._on_closing(number, now)
        self._effects.append(Close(number, reason, detail))

    def _now_told(self, link: Link, now: float) -> None:
        """The peer's frontier is here: the link is up."""
        link.told = True
        if not link.closing:
            relieved = self._links.up(link)
            self._emit(events.LinkUp(link.number))
            if relieved is not None:
                self._emit(events.LinkDown(relieved))
            self._settle_double(link.peer.origin, now)

    # ── what comes in ───────────────────────────────────────────────────────────────

    def _on_received(self, event: events.Received, now: float) -> None:
        link = self._links.get(event.link)
        if link is None:  # closed by an earlier event of the same turn
            return
        link.heard = now
        try:
            for frame in event.frames:
                self._on_frame(link, frame, now)
        except RemoteError as error:
            self._close(link.number, error.reason, error.detail, now)
            self._links.forget(link.number)

    def _on_frame(self, link: Link, frame: native.Frame, now: float) -> None:
        match frame:
            case native.SignedBatch():
                self._require_frontier(link)
                self._intake.batch(link, frame, now)
            case native.Have():
                self._require_frontier(link)
                self._on_have(link, frame, now)
            case native.Want():
                self._require_frontier(link)
                self._spread.wanted(link, frame, now)
            case native.Prune():
                self._spread.pruned(link, frame)
            case native.Snapshot():
                self._on_snapshot(link, frame, now)
            case native.Digest():
                self._on_digest(link, frame, now)
            case native.Whisper():
                self._require_frontier(link)
                self._intake.whisper(link, frame)
            case native.Ping():
                if not link.closing:
                    self._send((link,), native.Pong(frame.token))
            case native.Pong():
                if frame.token == 0 and not link.rtt:
                    link.rtt = min(now - link.opened, RTT_MOST)
                    link.bases = None  # the snapshot was read before this was answered
            case native.Unknown():
                self._unknown_frames += 1
            case native.Intro() | native.Proof() | native.Bye():
                raise RemoteError(f"{type(frame).__name__} on an open link", Reason.ORDER)
            case _:
                assert_never(frame)

    def _require_frontier(self, link: Link) -> None:
        if not link.told:
            raise RemoteError("a frame before the snapshot", Reason.ORDER)

    def _on_snapshot(self, link: Link, frame: native.Snapshot, now: float) -> None:
        if link.told or link.compares:
            raise RemoteError("a snapshot that has no place here", Reason.ORDER)
        link.snapshot.extend(frame.streams)
        if len(link.snapshot) > self._config.claims_limit:
            raise RemoteError("a snapshot of too many streams", Reason.LIMIT)
        if not frame.last:
            return
        entries, link.snapshot = link.snapshot, []
        if not self.settled:
            taken = joining.epoch_taken(entries, self.outbox)
            if taken is not None:
                self._emit(events.EpochTaken(taken))
                return
            self.settled = True
            joining.settle(self.history, entries, self.outbox.run, now)
        self._now_told(link, now)
        for entry in entries:
            self._claimed(link, (entry.origin, entry.epoch), entry.low, entry.high, now, debt=True)

    def _on_digest(self, link: Link, frame: native.Digest, now: float) -> None:
        if not link.told:
            if not link.compares:
                raise RemoteError("a digest where a snapshot was due", Reason.ORDER)
            self._now_told(link, now)
        elif now < link.compared + DIGEST_PAUSE:
            return  # honest ones come every compare_interval, and the next tells the same
        link.compared = now
        heads = dict(self._heads())
        differing = dict.fromkeys(compare.differing(heads.items(), frame))
        if not link.closing:
            self._spread.announce(link, list(differing))
        for run, head in heads.items():
            if run in differing:
                continue
            if link.holds(run) < head:  # the peer knows as much
                link.claim(run, head + 1, head)
            self._taken_there(run, head)

    def _on_have(self, link: Link, frame: Have, now: float) -> None:
        for entry in frame.streams:
            run = (entry.origin, entry.epoch)
            debt = entry.origin not in link.quiet
            self._claimed(link, run, entry.low, entry.high, now, debt=debt)
            if frame.answer:
                self._repair.answered(link.number, run, now)

    def _claimed(self, link: Link, run: Run, low: int, high: int, now: float, *, debt: bool) -> None:
        self._taken_there(run, high)
        if run == self.outbox.run:
            link.claim(run, low, min(high, self.outbox.head))
            return
        stream = self.history.get(run)
        evidence = self.history.head(run) if stream is None else stream.high
        high = min(high, evidence + _CLAIM_AHEAD)
        link.claim(run, low, high)
        if high > self.history.head(run) and not link.closing:
            self._repair.announced(link, run, now, debt=debt)

    # ── what goes out ───────────────────────────────────────────────────────────────

    def _on_publish(self, event: events.Publish, now: float) -> None:
        for signed in self.outbox.publish(event.entries, event.wall_ms):
            self.history.take(signed, now)
            self._spread.publish(signed, now, follows=self.outbox.taken >= signed.batch.first - 1)
        self._intake.give_up(self.history.evict(now, self.outbox.run, self.outbox.taken), now)

    def _on_accepted(self, event: events.Accepted, now: float) -> None:
        link = self._links.get(event.link)
        if link is None or link.closing:
            return
        link.accepted = event.size
        while link.own_marks and link.own_marks[0][0] <= event.size:
            self._taken(link.own_marks.popleft()[1])
        self._spread.flowing(link, now)

    def _taken_there(self, run: Run, high: int) -> None:
        """A neighbour has everything of *run* up to *high*, which matters of own runs."""
        if run == self.outbox.run:
            self._taken(high)
        elif run[0] == self._myself.origin:
            self.history.taken_of_earlier(run, high)

    def _taken(self, sequence: int) -> None:
        self.outbox.accepted(sequence)
        if self.congested and self.outbox.unsent_bytes < self._config.unsent_bytes / 2:
            self.congested = False
            self._emit(events.Drained())

    def _send(self, links: Iterable[Link], frame: native.SignedBatch | native.Plain) -> None:
        size = native.size(frame)
        mark = 0
        if isinstance(frame, SignedBatch) and (frame.batch.origin, frame.batch.epoch) == self.outbox.run:
            mark = frame.batch.last
        numbers = []
        for link in links:
            link.sent += size
            numbers.append(link.number)
            if mark:
                link.own_marks.append((link.sent, mark))
        self._effects.append(Send(numbers, frame, size))

    # ── timers ──────────────────────────────────────────────────────────────────────

    def _on_timer(self, timer: Timer, now: float) -> None:
        self._timers.pop(timer, None)
        match timer:
            case Timer.GAPS:
                self._intake.give_up(self.history.give_up(now, self._config.gap_patience), now)
                self._watch_holes()
            case Timer.ANNOUNCE:
                self._spread.announce_owed()
            case Timer.REPAIR:
                pass  # what is due goes out after every event
            case Timer.COMPARE:
                links = [link for link in self._links.fed if link.up]
                if links:
                    self._send(links, compare.digest(self._heads()))
                    self._set_timer(Timer.COMPARE, now + self._config.compare_interval)
            case Timer.AGE:
                self.history.age(now, self.outbox.run, self.outbox.taken)
                self._set_timer(Timer.AGE, now + self._config.history_seconds / 10)
            case _:
                assert_never(timer)

    def _watch_holes(self) -> None:
        # A timer that is set looks at every hole when it fires: no need to with every batch.
        if Timer.GAPS not in self._timers:
            since = self.history.oldest_hole
            if since is not None:
                self._set_timer(Timer.GAPS, since + self._config.gap_patience)

    def _schedule_repair(self, now: float) -> None:
        if self._repair.wake is None:
            return
        for link, want in self._repair.due(now):
            link.quiet.discard(want.origin)
            self._send((link,), want)
        if self._repair.wake is not None:
            self._set_timer(Timer.REPAIR, self._repair.wake, sooner=True)

    def _set_timer(self, timer: Timer, at: float, *, sooner: bool = False) -> None:
        """Set *timer* unless it is set; it looks again when it fires too early."""
        running = self._timers.get(timer)
        if running is None or (sooner and at < running):
            self._timers[timer] = at
            self._effects.append(SetTimer(timer, at))

    def _heads(self) -> list[tuple[Run, int]]:
        return [(stream.run, stream.head) for stream in self.history if stream.head]

    def _effect(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _emit(self, what: events.Happening) -> None:
        self._effects.append(Emit(what))

"""A node: links, streams and outbox composed into one function of events.

Contract: ``handle(event, now) -> effects``; ``now`` is seconds of any steady clock.  State is
committed before the effects are returned.  A peer that breaks the protocol gets a Close effect and
changes nothing else; any exception out of :meth:`Node.handle` is a fault of ours.

The rules it holds together (docs/protocol.rst says why):

* a link carries SNAPSHOT first, then everything new: the snapshot describes the moment the link came
  up, so nothing falls between the two;
* the first snapshot is where an unsettled node starts;
* a new batch goes to every link but the one it came from; duplicates are found before verification;
* own batches go out as fast as each link accepts them, and are kept until one has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import Close, Deliver, Effect, Emit, Event, Send, SetTimer, Timer
from twisted_mesh.core.handshake import Myself
from twisted_mesh.core.links import Link, Links
from twisted_mesh.core.outbox import Outbox
from twisted_mesh.core.streams import Ready, Streams
from twisted_mesh.errors import PoisonedBody, Reason, RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.native import SignedBatch, Snapshot, SnapshotEntry
from twisted_mesh.wire.packets import unpack_entries

_DOUBLE = "another link to this node is kept"
_SNAPSHOT_STREAMS = 800  # entries in a frame: at most 71 bytes each, so under the 64 KiB of a frame


class Node:
    """The core of one run of one node.

    :ivar settled: whether a snapshot has told this node where to start.
    :ivar congested: whether somebody was refused room and waits for Drained.
    :ivar counts: what was ignored or refused so far, by name.
    """

    def __init__(self, myself: Myself, config: MeshConfig) -> None:
        self._myself = myself
        self._config = config
        self._network = native.network_digest(myself.network.id)
        self._links = Links(myself, config)
        self._streams = Streams(
            waiting_limit=config.waiting_bytes,
            open_limit=config.open_streams,
            closed_limit=config.closed_streams,
        )
        self.outbox = Outbox(myself.origin, myself.epoch, self._network, myself.sign, config.batch_bytes)
        self.settled = False
        self.counts = {"duplicates": 0, "no_room": 0, "poisoned": 0, "unknown_frames": 0}
        self.congested = False
        self._gap_timer_set = False
        self._effects: list[Effect] = []

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What follows from *event* at the time *now*."""
        effects: list[Effect] = []
        self._effects = effects
        match event:
            case events.Received():
                self._on_received(event, now)
            case events.Accepted():
                self._on_accepted(event)
            case events.Publish():
                self.outbox.publish(event.entries, event.wall_ms)
                self._feed(self._links.fed)
            case events.LinkOpened():
                self._on_opened(event, now)
            case events.LinkClosing():
                self._on_closing(event.link)
            case events.LinkClosed():
                self._on_closing(event.link)
                self._links.forget(event.link)
            case events.TimerFired():
                self._on_gap_timer(now)
            case _:
                assert_never(event)
        return effects

    def room_for(self, size: int) -> bool:
        """Whether *size* more bytes of own messages fit beside those no link has taken."""
        if self.outbox.unsent_bytes + size <= self._config.unsent_bytes:
            return True
        self.congested = True  # from now on the outside waits for Drained
        return False

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            **self._links.footprint(),
            **self._streams.footprint(),
            "own_batches": len(self.outbox),
            "own_bytes": self.outbox.unsent_bytes + self.outbox.lagging_bytes,
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def _on_opened(self, event: events.LinkOpened, now: float) -> None:
        link, older = self._links.open(event, now)
        if not self._links.is_kept(link):
            self._close(link.number, Reason.DUPLICATE, _DOUBLE)
            return
        # To a node that has a link already it goes on where that one is.
        taken = self.outbox.taken
        link.fed = link.accepted = taken if older is None else min(older.fed, taken)
        for frame in self._snapshot():
            self._effects.append(Send((link.number,), frame))
        # What waits behind a hole went to the others when it came; nobody would send it again.
        for stream in self._streams:
            for waiting in stream.waiting:
                self._effects.append(Send((link.number,), waiting.relayed()))
        self._feed((link,))

    def _snapshot(self) -> Iterable[Snapshot]:
        heads = [(stream.run, stream.head) for stream in self._streams if stream.head]
        entries = [SnapshotEntry(*run, head + 1, head, head) for run, head in heads]
        outbox = self.outbox
        if outbox.head:
            # What no link has taken yet is not behind the newcomer: it is the first to get it.
            entries.append(SnapshotEntry(*outbox.run, outbox.oldest, outbox.head, outbox.taken))
        for at in range(0, max(len(entries), 1), _SNAPSHOT_STREAMS):
            last = at + _SNAPSHOT_STREAMS >= len(entries)
            yield Snapshot(last, entries[at : at + _SNAPSHOT_STREAMS])

    def _on_closing(self, number: int) -> None:
        self._drain(number)
        self._release()

    def _drain(self, number: int) -> None:
        if link := self._stop_feeding(number):
            self._settle_double(link.peer.origin)

    def _settle_double(self, origin: bytes) -> None:
        for link in self._links.replaced(origin):
            self._stop_feeding(link.number)
            self._effects.append(Close(link.number, Reason.DUPLICATE, _DOUBLE))

    def _stop_feeding(self, number: int) -> Link | None:
        link, heir = self._links.close(number)
        if heir is not None:
            self._emit(events.LinkUp(heir.number))
        if link is not None and link.up:
            self._emit(events.LinkDown(number))
        return link

    def _close(self, number: int, reason: Reason, detail: str) -> None:
        self._on_closing(number)
        self._effects.append(Close(number, reason, detail))

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
            self._close(link.number, error.reason, error.detail)
            self._links.forget(link.number)

    def _on_frame(self, link: Link, frame: native.Frame, now: float) -> None:
        match frame:
            case native.SignedBatch():
                self._require_snapshot(link)
                self._on_batch(link, frame, now)
            case native.Snapshot():
                self._on_snapshot(link, frame, now)
            case native.Whisper():
                self._require_snapshot(link)
                self._on_whisper(link, frame)
            case native.Ping():
                if not link.closing:
                    self._effects.append(Send((link.number,), native.Pong(frame.token)))
            case native.Pong():
                pass  # that it came is all it says, and the link has noted that
            case native.Unknown():
                self.counts["unknown_frames"] += 1
            case native.Intro() | native.Proof() | native.Bye():
                raise RemoteError(f"{type(frame).__name__} on an open link", Reason.ORDER)
            case _:
                assert_never(frame)

    def _require_snapshot(self, link: Link) -> None:
        if not link.told:
            raise RemoteError("a message before the snapshot", Reason.ORDER)

    def _on_snapshot(self, link: Link, frame: Snapshot, now: float) -> None:
        if link.told:
            raise RemoteError("a second snapshot", Reason.ORDER)
        if not self.settled:
            link.snapshot.extend(frame.streams)
            if len(link.snapshot) > self._config.closed_streams:
                raise RemoteError("a snapshot of too many streams", Reason.LIMIT)
        if not frame.last:
            return
        if not self.settled:
            self.settled = True
            for entry in link.snapshot:
                run = (entry.origin, entry.epoch)
                if entry.base and run != self.outbox.run:
                    self._streams.start_at(run, entry.base, now)
        link.snapshot = []
        link.told = True
        if not link.closing:
            self._links.up(link)
            self._emit(events.LinkUp(link.number))
            self._settle_double(link.peer.origin)
            self._release()

    def _on_whisper(self, link: Link, frame: native.Whisper) -> None:
        try:
            entries = unpack_entries(frame.body)
        except PoisonedBody as error:  # unsigned: the link itself is to blame
            raise RemoteError(error.detail, Reason.SHAPE) from None
        if len(entries) > native.MAX_BATCH_COUNT:
            raise RemoteError("a whisper of too many messages", Reason.LIMIT)
        self._effects.append(
            Deliver(link.number, link.peer.origin, link.peer.epoch, 0, 0, len(frame.body), entries)
        )

    def _on_batch(self, link: Link, signed: SignedBatch, now: float) -> None:
        batch = signed.batch
        if (batch.origin, batch.epoch) == self.outbox.run or self._streams.is_duplicate(batch):
            self.counts["duplicates"] += 1
            return
        if not self._streams.has_room(signed):
            # Not kept, so not relayed either: what is relayed but unknown would go in circles.
            self.counts["no_room"] += 1
            return
        text = native.signed_text(self._network, signed.array)
        if not self._myself.verify(batch.origin, signed.signature, text):
            raise RemoteError("a batch with a false signature", Reason.SIGNATURE)
        ready = self._streams.take(signed, now)
        others = [other.number for other in self._links.fed if other is not link]
        if others:
            self._effects.append(Send(others, signed.relayed()))
        self._deliver(ready, link.number)
        for gap, behind in self._streams.close_idle():
            self._emit(gap)
            self._deliver(behind)
        self._set_gap_timer()

    def _deliver(self, ready: Iterable[Ready], link: int = 0) -> None:
        for item in ready:
            batch = item.batch
            if batch.origin == self._myself.origin:
                continue  # an earlier run of our own: relayed, never delivered to itself
            try:
                if batch.encoding != 0:
                    raise PoisonedBody(f"unknown encoding {batch.encoding}")
                entries = unpack_entries(batch.body, batch.count)[item.start - batch.first :]
            except PoisonedBody as error:
                self.counts["poisoned"] += 1
                self._emit(events.Poisoned(batch.origin, batch.epoch, item.start, batch.last, error))
                continue
            self._effects.append(
                Deliver(link, batch.origin, batch.epoch, item.start, batch.sent, len(batch.body), entries)
            )

    # ── holes ───────────────────────────────────────────────────────────────────────

    def _on_gap_timer(self, now: float) -> None:
        self._gap_timer_set = False
        for gap, behind in self._streams.give_up(now, self._config.gap_patience):
            self._emit(gap)
            self._deliver(behind)
        self._set_gap_timer()

    def _set_gap_timer(self) -> None:
        # A timer that is set may fire early, for a hole that was filled meanwhile: it then looks
        # again, which is cheaper than looking with every batch.
        if self._gap_timer_set:
            return
        since = self._streams.oldest_hole
        if since is not None:
            self._gap_timer_set = True
            self._effects.append(SetTimer(Timer.GAPS, since + self._config.gap_patience))

    # ── what goes out ───────────────────────────────────────────────────────────────

    def _on_accepted(self, event: events.Accepted) -> None:
        link = self._links.get(event.link)
        if link is None or link.closing:
            return
        link.accepted = event.sequence
        self.outbox.accepted(event.sequence)
        self._feed((link,))
        self._release()
        if self.congested and self.outbox.unsent_bytes < self._config.unsent_bytes / 2:
            self.congested = False
            self._emit(events.Drained())

    def _feed(self, links: Iterable[Link]) -> None:
        """Give each of *links* the own batches it may have now."""
        for link in links:
            in_flight = 0
            while link.fed == link.accepted or in_flight:
                signed = self.outbox.after(link.fed)
                if signed is None or in_flight > self._config.write_bytes:
                    break
                link.fed = signed.batch.last
                in_flight += len(signed.array)
                self._effects.append(Send((link.number,), signed, link.fed))

    def _release(self) -> None:
        """Forget own batches every link was given; close the links that lag too far behind."""
        while True:
            slowest = min(self._links.fed, key=lambda link: link.fed, default=None)
            self.outbox.release(self.outbox.taken if slowest is None else slowest.fed)
            if slowest is None or self.outbox.lagging_bytes <= self._config.link_queue_bytes:
                break
            self._drain(slowest.number)
            detail = "the peer reads too slowly for what is sent"
            self._effects.append(Close(slowest.number, Reason.SLOW, detail))

    def _emit(self, what: events.Happening) -> None:
        self._effects.append(Emit(what))

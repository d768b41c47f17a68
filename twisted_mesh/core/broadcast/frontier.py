"""How two nodes tell each other which messages they hold: when their link comes up, and from then on.

Contract: the first frame of this kind on a new link is a SNAPSHOT
(:mod:`~twisted_mesh.core.broadcast.joining`), or a DIGEST if both ends have a base.  A DIGEST has a hash
for each bucket of streams, so that one frame shows where two histories differ.  A stream's bucket is the
first byte of its origin, divided by 4.

A frontier is a claim: a peer says, unsigned, that it holds messages.  Because of a claim this node asks
for messages, and believes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.outflow import Outflow
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import DIGEST_PAUSE, Link
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Bucket, Digest, Have, Headers

BUCKETS: Final = 64
_CLAIM_AHEAD: Final = 2**20  # a claim may go so many messages beyond signed ones; more is a lie (protocol)

Heads = Iterable[tuple[StreamId, int, bytes]]  # the head of each run, and the hash of the header there


@dataclass(eq=False)
class Frontier:
    """The frontiers of this node and of its peers."""

    _history: History
    _outbox: Outbox
    _outflow: Outflow
    _repair: Repair
    _push: Push
    _patience: Patience
    _forks: Forks

    def digest(self, link: Link | None = None) -> Digest:
        """The DIGEST of all streams held here.

        :param link: the link it is for.  Runs that its peer holds, and that are closed or void here, count
            with the head that the peer has told.  Otherwise two nodes that keep messages for different
            times would find each other different for as long.
        """
        return digest([*self._heads(), *(() if link is None else self._over(link))])

    def claimed_by_snapshot(self, link: Link, now: float) -> None:
        """Take in the claims of the peer's SNAPSHOT, now that the link is up."""
        entries, link.frontier.snapshot = link.frontier.snapshot, []
        for entry in entries:
            run = (entry.origin, entry.epoch)
            if entry.proof and entry.origin == self._outbox.run[0]:
                self._held_there(run, entry.high, codec.unpack_header(entry.proof).hash)
            self._claimed(link, run, entry.low, entry.high, now, eager=True)

    def on_digest(self, link: Link, frame: Digest, now: float) -> None:
        """Announce the streams of all buckets that differ from the peer's."""
        if link.frontier.compared_at + DIGEST_PAUSE > now:
            return  # an honest peer's next DIGEST, after compare_interval, serves as well
        link.frontier.compared_at = now
        heads = self._heads()
        over = self._over(link)
        different = dict.fromkeys(differing([*heads, *over], frame))
        for run in [run for run, _, _ in over if run in different]:
            del different[run], link.frontier.over[run]  # the peer tells it again if it is open there still
        if not link.closing:
            self._push.announce(link, list(different), now)
            own = (run for run, _, _ in heads if run not in different and self._is_unconfirmed(run))
            self._push.ask_headers(link, list(own))
        for run, head, _ in heads:
            if run in different:
                continue
            if link.frontier.holds(run) < head:  # the peer has received as many messages
                link.frontier.claim(run, head + 1, head)

    def on_headers(self, link: Link, frame: Headers, now: float) -> None:
        """Take in headers that the peer sent.

        :raises RemoteError: an entry is no header, or a header that matters here is not signed by its
            author.
        """
        for header in self._forks.on_headers(link, frame, now):
            self._held_there((header.batch.origin, header.batch.epoch), header.batch.last, header.hash)

    def on_have(self, link: Link, frame: Have, now: float) -> None:
        """Take in the peer's claims on some streams."""
        for entry in frame.streams:
            run = (entry.origin, entry.epoch)
            eager = entry.origin not in link.push.lazy_by_us
            self._held_there(run, entry.high, entry.hash)
            if self._is_over(run, entry.high):
                link.frontier.note_over(run, entry.high, entry.hash)
            self._claimed(link, run, entry.low, entry.high, now, eager=eager)
            self._forks.send_header(link, entry)
            if entry.coming:
                self._patience.heard(run, entry.coming, now)
            if entry.coming == 1:
                link.push.note_coming(run, now)
            if frame.answer:
                self._repair.answered(link, run, now)

    def _claimed(self, link: Link, run: StreamId, low: int, high: int, now: float, *, eager: bool) -> None:
        if run == self._outbox.run:
            link.frontier.claim(run, low, min(high, self._outbox.head))
            return
        stream = self._history.get(run)
        evidence = self._history.head(run) if stream is None else stream.high
        high = min(high, evidence + _CLAIM_AHEAD, self._history.most(run))
        link.frontier.claim(run, min(low, high + 1), high)
        if high > self._history.head(run) and not link.closing and not self._history.past.is_void(run):
            self._repair.announced(link, run, now, eager=eager)

    def _held_there(self, run: StreamId, high: int, hash: bytes) -> None:
        """Take in that a neighbour claims to have *run* up to *high*, if *run* is one of this node's.

        The claim counts if it has the *hash* of the header there, which only a node that was sent this
        header knows.  An equal DIGEST does not count, since a peer can send this node's own one back.
        """
        if run == self._outbox.run:
            self._outflow.announced(high, hash)
        elif run[0] == self._outbox.run[0]:
            stream = self._history.get(run)
            if stream is not None and (stream.head, stream.hash) == (high, hash) and hash:
                self._history.accepted_of_earlier(run, high)

    def _is_over(self, run: StreamId, high: int) -> bool:
        """Whether *run* is closed or void here, and none of its messages up to *high* is missing."""
        history = self._history
        return history.get(run) is None and high > 0 and history.next_missing(run, 1, high) is None

    def _over(self, link: Link) -> list[tuple[StreamId, int, bytes]]:
        """The runs that the peer has told to be open there, and that are over here."""
        told = link.frontier.over.items()
        return [(run, head, hash) for run, (head, hash) in told if self._is_over(run, head)]

    def _is_unconfirmed(self, run: StreamId) -> bool:
        """Whether *run* is one of this node's, and no neighbour is known to have all of its messages."""
        if run == self._outbox.run:
            return not self._outbox.is_confirmed
        stream = self._history.get(run)
        return run[0] == self._outbox.run[0] and stream is not None and stream.base < stream.head

    def _heads(self) -> list[tuple[StreamId, int, bytes]]:
        # Nodes hold different parts of a run with a fork, and would find its bucket different for ever.
        streams = (stream for stream in self._history if stream.head and not stream.equivocated)
        return [(stream.run, stream.head, stream.hash) for stream in streams]


def digest(heads: Heads) -> Digest:
    """The DIGEST of *heads*.

    Runs fall into :data:`BUCKETS` buckets by the first byte of their origin; a DIGEST has one hash for each
    bucket that is not empty.
    """
    return Digest([Bucket(number, made) for number, made in sorted(_hashes(heads).items())])


def differing(heads: Heads, theirs: Digest) -> Iterator[StreamId]:
    """The runs of *heads* in the buckets that differ from those of *theirs*."""
    heads = list(heads)
    hashes = _hashes(heads)
    peers = {bucket.number: bucket.digest for bucket in theirs.buckets}
    return (run for run, _, _ in heads if peers.get(bucket_of(run)) != hashes[bucket_of(run)])


def bucket_of(run: StreamId) -> int:
    """The number of the bucket that *run* is in."""
    return run[0][0] * BUCKETS // 256


def _hashes(heads: Heads) -> dict[int, bytes]:
    hashes: dict[int, hashlib._Hash] = {}
    for (origin, epoch), head, header_hash in sorted(heads):
        hashed = hashes.setdefault(bucket_of((origin, epoch)), hashlib.sha256())
        hashed.update(origin + epoch.to_bytes(8, "big") + head.to_bytes(8, "big"))
        hashed.update(header_hash.ljust(32, b"\0"))
    return {number: hashed.digest() for number, hashed in hashes.items()}

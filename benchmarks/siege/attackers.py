"""Attackers that are members, as processes: ``python -m benchmarks.siege.attackers KIND``.

Contract: a process shakes hands like any node, under as many keys as KIND has links, and then writes frames
of KIND as fast as each link takes them.  It says ``[]`` once it begins, and ends with its standard input.
An attacker is another host: so the process takes only the processor time that the honest nodes leave.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from benchmarks.siege.node import HOSTS, PORT, reactor
from twisted_mesh import Identity, MeshService
from twisted_mesh.errors import MeshError
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Want
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Presence, RosterEntry, Suspect
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.replies import Receipt, Receipts, SignedReceipt
from twisted_mesh.wire.signed import Record, SignedRecord

_AHEAD: Final = 128 * 1024  # bytes that wait for a link
_PAUSE: Final = 0.002  # seconds from one look at the links to the next
_SMALL: Final = join_entries([pack_entry(0, ["x"])])


class Author:
    """A key that signs what an attacker likes."""

    def __init__(self, digest: bytes, identity: Identity | None = None) -> None:
        self._digest = digest
        self._identity = identity or Identity.generate()
        self.origin = self._identity.origin
        self.epoch = int(time.time() * 1000)
        self._number, self._previous, self._counter = 0, bytes(32), 0

    def batch(self, body: bytes = _SMALL, encoding: int = 0) -> bytes:
        """The next batch of its run, with one message."""
        self._number += 1
        batch = Batch(self.origin, self.epoch, self._number, 1, self.epoch, encoding, self._previous)
        signed = codec.sign_batch(batch, body, self._digest, self._identity.sign)
        self._previous = signed.header.hash
        return codec.encode(signed)

    def begin_run(self) -> None:
        """Begin another run."""
        self.epoch += 1
        self._number, self._previous, self._counter = 0, bytes(32), 0

    def signed(self, record: Record) -> SignedRecord:
        """*record*, signed."""
        array = codec.pack(record)
        return SignedRecord(
            record, self._identity.sign(codec.signed_text(self._digest, array, record.kind)), array
        )

    def presence(self) -> SignedRecord:
        """Its next record."""
        self._counter += 1
        counter, key = self._counter, bytes(range(32))
        return self.signed(
            Presence(self.origin, self.epoch, counter, 0, None, 0, None, {}, 0, 30_000, 0, b"", 0, key)
        )

    def receipt(self, number: int) -> bytes:
        """A receipt for a message that is not there."""
        array = codec.pack(receipt := Receipt(self.origin, self.epoch, 1, number, self.origin, self.epoch))
        text = codec.signed_text(self._digest, array, receipt.kind)
        return codec.encode(Receipts([SignedReceipt(self._identity.sign(text), array)]))


def pings(own: Author, digest: bytes) -> Iterator[bytes]:
    """The smallest frames, which ask for answers."""
    while True:
        yield b"".join(codec.encode(Ping(token)) for token in range(1000, 1100))


def batches(own: Author, digest: bytes) -> Iterator[bytes]:
    """A message in each batch."""
    while True:
        yield own.batch()


def minted(own: Author, digest: bytes) -> Iterator[bytes]:
    """A message in each batch, under a hundred keys."""
    authors = [Author(digest) for _ in range(100)]
    while True:
        for author in authors:
            yield author.batch()


def newcomers(own: Author, digest: bytes) -> Iterator[bytes]:
    """A new key for each message and record."""
    while True:
        author = Author(digest)
        yield codec.encode(author.presence()) + author.batch()


def records(own: Author, digest: bytes) -> Iterator[bytes]:
    """The own record again and again."""
    while True:
        yield codec.encode(own.presence())


def runs(own: Author, digest: bytes) -> Iterator[bytes]:
    """A run for each message."""
    while True:
        own.begin_run()
        yield own.batch()


def unreadable(own: Author, digest: bytes) -> Iterator[bytes]:
    """Batches that nobody can unpack."""
    while True:
        yield own.batch(b"\xc1" * 50)


def lists(own: Author, digest: bytes) -> Iterator[bytes]:
    """Messages of many empty lists."""
    body = join_entries([pack_entry(0, [[[]] * 16_000])])
    while True:
        yield own.batch(body)


def large(own: Author, digest: bytes) -> Iterator[bytes]:
    """Messages of 900 kB."""
    body = join_entries([pack_entry(0, [bytes(900_000)])])
    while True:
        yield own.batch(body)


def accusations(own: Author, digest: bytes) -> Iterator[bytes]:
    """A new member each time, which accuses the attacker itself, the newest member that it knows."""
    while True:
        accuser, accused = Author(digest), Author(digest)
        suspect = Suspect(accuser.origin, accused.origin, accused.epoch, 1)
        both = (accuser.presence(), accused.presence(), accuser.signed(suspect))
        yield b"".join(map(codec.encode, both))


def rosters(own: Author, digest: bytes) -> Iterator[bytes]:
    """A roster without end, of new members."""
    while True:
        entries = [RosterEntry(0, codec.payload(Author(digest).presence())) for _ in range(100)]
        yield codec.encode(RosterFrame(False, entries, 1))


def receipts(own: Author, digest: bytes) -> Iterator[bytes]:
    """Receipts for what is not there."""
    for number in count(1):
        yield own.receipt(number)


def wants(own: Author, digest: bytes) -> Iterator[bytes]:
    """The own 2,000 messages, and then requests for all of them again and again."""
    body = join_entries([pack_entry(0, ["x" * 1000])])
    for _ in range(2000):
        yield own.batch(body)
    want = codec.encode(Want(own.origin, own.epoch, 1, 2000, True))
    while True:
        yield want * 20


def halves(own: Author, digest: bytes) -> Iterator[bytes]:
    """The beginning of a frame of a megabyte, and then a byte at a time."""
    yield (2**20 - 64).to_bytes(4, "big") + b"\x05"
    while True:
        yield bytes(1)


Kind = Callable[[Author, bytes], Iterator[bytes]]
#: Links, and what each of them brings.
KINDS: Final[dict[str, tuple[int, Kind]]] = {
    "tiny frames, 1 link": (1, pings),
    "tiny frames, 30 links": (30, pings),
    "tiny frames, 100 links": (100, pings),
    "small batches": (1, batches),
    "small batches of 100 keys": (1, minted),
    "small batches, 30 links": (30, batches),
    "a key for each message": (1, newcomers),
    "records": (1, records),
    "runs": (1, runs),
    "unreadable batches": (1, unreadable),
    "empty lists": (1, lists),
    "large messages": (1, large),
    "accusations": (1, accusations),
    "rosters": (1, rosters),
    "receipts": (1, receipts),
    "requests": (1, wants),
    "half frames, 60 links": (60, halves),
}
STRANGERS: Final = "strangers"  #: connects without a word, a thousand times a second at most


class Attacker:
    """One link of an attacker, which links again if it is closed."""

    def __init__(self, kind: Kind) -> None:
        def dial(host: str, port: int) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(reactor, host, port, bindAddress=(HOSTS["attacker"], 0))

        identity = Identity.generate()
        self._service = MeshService(reactor, identity=identity, listen=(), dial=dial, overlay=False)
        digest = codec.network_digest(self._service.protocol.id_with(""))
        self._frames = kind(Author(digest, identity), digest)
        self._link: MeshProtocol | None = None
        self._dials = False

    async def begin(self) -> None:
        """Link for the first time."""
        self._service.startService()
        await self._service.ready()
        await self._dial()

    def write(self) -> None:
        """Fill the link, or link again."""
        if self._link is None or self._link.error is not None:
            if not self._dials:
                Deferred.fromCoroutine(self._dial())
            return
        began = time.monotonic()
        while self._link.queued_bytes < _AHEAD and time.monotonic() < began + _PAUSE:
            self._link.write(next(self._frames))

    async def _dial(self) -> None:
        self._dials = True
        with suppress(MeshError):  # it was refused, and tries again
            self._link = await self._service.connect(HOSTS["middle"], PORT)
        self._dials = False


def knock(times: int) -> None:
    """Connect twice for each pause that is over, without a word."""
    endpoint = TCP4ClientEndpoint(reactor, HOSTS["middle"], PORT, bindAddress=(HOSTS["attacker"], 0))
    for _ in range(min(20, 2 * times)):
        endpoint.connect(Factory.forProtocol(Protocol)).addErrback(lambda failure: None)


class Input(Protocol):
    """Ends the process with its standard input."""

    def connectionLost(self, reason: Any = None) -> None:
        """End."""
        with suppress(ReactorNotRunning):
            reactor.stop()


def give_up(failure: Failure) -> None:
    """End the process, which cannot attack."""
    failure.printTraceback()
    reactor.stop()


async def attack(name: str) -> None:
    """Begin."""
    if name == STRANGERS:
        LoopingCall.withCount(knock).start(_PAUSE)
    else:
        links, kind = KINDS[name]
        attackers = [Attacker(kind) for _ in range(links)]
        await gatherResults([Deferred.fromCoroutine(attacker.begin()) for attacker in attackers])
        for attacker in attackers:
            LoopingCall(attacker.write).start(_PAUSE)
    sys.stdout.write(json.dumps([]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.nice(19)
    StandardIO(Input())
    Deferred.fromCoroutine(attack(sys.argv[1])).addErrback(give_up)
    reactor.run()

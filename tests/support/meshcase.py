"""The common parts of the tests of services: nodes on a network in memory, and scripted peers."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Coroutine, Iterable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.length import at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.handshake import Handshake, LocalNode, Side, Stage
from twisted_mesh.core.link import READ_ALL, READ_SNAPSHOT, READ_SO_FAR
from twisted_mesh.core.status import Status
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import Congested, RemoteError
from twisted_mesh.identity import Identity, verify
from twisted_mesh.links import tls
from twisted_mesh.links.tls import Tls
from twisted_mesh.message import Message
from twisted_mesh.network import Protocol as MeshNetwork
from twisted_mesh.runtime.running_node import RunningNode
from twisted_mesh.runtime.sealing import HpkeKeys
from twisted_mesh.service import MeshService
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.testing import PORT, MemoryMesh
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Digest, SignedBatch, Snapshot
from twisted_mesh.wire.framing import LENGTH_BYTES, MAX_FRAME_BYTES, FrameReader
from twisted_mesh.wire.link import Bye, Ping, Pong
from twisted_mesh.wire.membership import Purpose, Roster

T = TypeVar("T")
MIB = 2**20
BIG = b"x" * 300_000
#: Values that are no time-out.
#: No time-outs, and the kind of the error: a TypeError or a ValueError.
NO_TIMEOUTS: tuple[tuple[Any, type[Exception]], ...] = (
    *((wrong, TypeError) for wrong in ("1", b"1", True, False, [1], 1j)),
    *((wrong, ValueError) for wrong in (float("nan"), -1, -1e-9, float("-inf"), -(10**400))),
)
#: The payloads of PINGs that ask whether all was read so far, each with the PONG that answers it.
_READ = {
    codec.encode(Ping(token))[LENGTH_BYTES:]: Pong(token)
    for token in (READ_SNAPSHOT, READ_SO_FAR, READ_ALL)
}
_MEASURING = "how fast"
#: One Tls for all scripted peers: making a certificate takes as long as a whole test.
_tls: list[Tls] = []


class Raw(Protocol):
    """A scripted peer: it sends the bytes that the test writes, and keeps the bytes that come."""

    def __init__(self) -> None:
        self._received = bytearray()
        self.lost: Failure | None = None

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)  # type: ignore[union-attr]

    def close(self) -> None:
        """Close the connection."""
        self.transport.loseConnection()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    @property
    def received(self) -> bytes:
        """All bytes that came."""
        return bytes(self._received)

    def payloads(self) -> list[bytes]:
        """The payloads of the whole frames that came."""
        return list(FrameReader(MAX_FRAME_BYTES).feed(self.received))

    def frames(self) -> list[codec.Frame]:
        """The frames behind the greeting, or all frames if a BYE came in place of the greeting."""
        payloads = self.payloads()
        behind = 0 if payloads and is_bye(payloads[0]) else 1
        return [codec.decode(payload) for payload in payloads[behind:]]

    @property
    def bye(self) -> Bye | None:
        """The BYE that came."""
        return next((frame for frame in self.frames() if isinstance(frame, Bye)), None)


def is_bye(payload: bytes) -> bool:
    """Whether a frame is a BYE; a greeting's first byte can be the same."""
    try:
        return isinstance(codec.decode(payload), Bye)
    except RemoteError:
        return False


@implementer(IHandshakeListener)
class Puppet(Raw):
    """A scripted peer that shakes hands and answers as a node does, and sends what the test says.

    :param frontier: whether it sends a frontier behind its proof; it holds no messages.
    :ivar twist: by stage, a function that changes its answer to the frame of that stage.
    """

    def __init__(self, side: Side, me: LocalNode, *, frontier: bool = True) -> None:
        super().__init__()
        self.me = me
        self.handshake = Handshake(side, me, nonce=bytes(range(32)), time=1)
        self.twist: dict[Stage, Any] = {}
        self._reader = FrameReader(MAX_FRAME_BYTES)
        self._frontier = frontier

    def connectionMade(self) -> None:
        self.write(self.handshake.start())

    def handshakeCompleted(self) -> None:
        self.write(self.handshake.session_made(lambda: tls.exporter(self.transport)))

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        for payload in self._reader.feed(data):
            stage = self.handshake.stage
            if payload in _READ:
                self.send(_READ[payload])
            if stage is Stage.DONE or is_bye(payload):
                continue
            answer = self.handshake.receive(payload, lambda: tls.exporter(self.transport))
            self.write(self.twist.get(stage, lambda answer: answer)(answer))
            if self.handshake.stage is Stage.DONE and self._frontier:
                self.send(Digest([]) if self.compares else Snapshot(True, []))

    @property
    def compares(self) -> bool:
        """Whether both ends said that they are settled, so that they send DIGESTs."""
        peer = self.handshake.peer
        return peer is not None and peer.settled and self.me.settled

    def send(self, *frames: codec.Signed | codec.Plain) -> None:
        """Send frames."""
        self.write(b"".join(map(codec.encode, frames)))


class MeshCase(SynchronousTestCase):
    """Nodes on one network in memory, which are stopped at the end; nothing may be left of them then.

    :cvar encryption: of nodes and scripted peers, unless a test says otherwise.
    """

    seed = 0
    encryption = at_length("SSL", "Plaintext")  # TLS takes more than a third of all time (measured)

    def setUp(self) -> None:
        gc.freeze()  # a collection looks at none of the things that there were before
        self.addCleanup(gc.unfreeze)
        self.mesh = MemoryMesh(0, seed=self.seed)
        self.network = self.mesh.network
        self.services = self.mesh.services
        self._lines: list[Any] = []
        globalLogPublisher.addObserver(self._lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self._lines.append)
        self._killed: list[MeshService] = []
        self.addCleanup(self._stop_all)

    def _stop_all(self) -> None:
        for end in list(self.network.ends):
            if not isinstance(end.protocol, Raw):
                end.reads = True
        self.mesh.stop()
        hosts = set(map(self.host, self.services))
        left = [end for end in self.network.ends if end.getHost().host in hosts]
        for end in list(self.network.ends):
            end.abortConnection()
        self.network.pump()
        alive = [service for service in self.services if service not in self._killed]
        self.assertEqual([service.footprint() for service in alive if service.footprint()], [])
        self.assertEqual(left, [])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    # ── nodes ───────────────────────────────────────────────────────────────────────

    def host(self, service: MeshService) -> str:
        """The host of a service."""
        host, _ = self.mesh.address(self.services.index(service))
        return host

    def make(self, *, listens: bool = True, **options: Any) -> MeshService:
        """A service on a host of its own, not started."""
        if not listens:
            options["listen"] = ()
        # Without it a message would wait, and most tests let no time pass.
        options.setdefault("encryption", self.encryption)
        limits = {"batch_delay": 0} | (options.pop("limits", None) or {})
        options.setdefault("config", MeshConfig(**limits))
        return self.mesh.add(started=False, **options)

    def node(self, **options: Any) -> MeshService:
        """A service that runs."""
        service = self.make(**options)
        service.startService()
        return service

    @cached_property
    def folder(self) -> Path:
        """A folder for the files of this test's nodes."""
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder

    def known(self, name: str, **options: Any) -> MeshService:
        """A service that runs, with its key in the file of that *name*: the same member at each call."""
        return self.node(identity=Identity.load_or_create(self.folder / name), **options)

    def keyed(self, **options: Any) -> MeshService:
        """A service that runs, and is the same member after a restart: its key is in a file."""
        return self.node(identity=Identity.create(self.mktemp()), **options)

    def keeping(self, name: str = "node", **options: Any) -> MeshService:
        """A service, not started, with key and history of that *name*."""
        options.setdefault("history", self.folder / f"{name}.history")
        return self.make(identity=Identity.load_or_create(self.folder / f"{name}.key"), **options)

    def started(self, name: str = "node", **options: Any) -> MeshService:
        """As :meth:`keeping`, started."""
        service = self.keeping(name, **options)
        service.startService()
        return service

    def crashed(self, name: str, copy: str) -> None:
        """Copy the files of *name* as a crash at this moment would leave them, as those of *copy*."""
        for path in self.folder.glob(f"{name}.*"):
            if not path.name.endswith("lock"):
                shutil.copy(path, path.with_name(copy + path.name.removeprefix(name)))

    def address(self, service: MeshService) -> str:
        """The address at which a service listens."""
        return f"{self.host(service)}:{PORT}"

    def link(self, *pairs: tuple[MeshService, MeshService], after: float = 0) -> None:
        """Link the nodes of each pair, the first dialling; then let *after* seconds pass."""
        links = [one.connect(self.host(other), PORT) for one, other in pairs]
        self.network.pump()
        for link in links:
            self.successResultOf(link)
        self._pass(after)

    def chain(self, count: int, *, after: float = 0, **options: Any) -> list[MeshService]:
        """Make *count* nodes in a row, each linked with the next; then let *after* seconds pass."""
        return self.linked(*(self.node(**options) for _ in range(count)), after=after)

    def linked(self, *nodes: MeshService, after: float = 0) -> list[MeshService]:
        """Link each of *nodes* with the next, which it dials, and return them."""
        self.link(*pairwise(nodes), after=after)
        return list(nodes)

    def send(self, author: MeshService, *packets: object, after: float = 0) -> None:
        """Let *author* send a message with each of *packets*; then let *after* seconds pass."""
        for packet in packets:
            author.send(packet)
        self._pass(after)

    def stop(self, service: MeshService, *, after: float = 0) -> None:
        """Stop a node, its farewell included; then let *after* seconds pass."""
        self.result_of(service.stopService(), after=3)
        self._pass(after)

    def unlink(self, service: MeshService, neighbour: MeshService | LocalNode, *, after: float = 0) -> None:
        """Let *service* end its link with *neighbour*; then let *after* seconds pass."""
        service.disconnect(service.routing_table[neighbour.id])
        self._pass(after)

    def kill(self, service: MeshService) -> int:
        """End a node as ``kill -9`` would; its number, by which ``mesh.start`` starts it again."""
        number = self.services.index(service)
        self.mesh.kill(number)
        self._killed.append(service)
        return number

    def say_too_much(self, service: MeshService, to: MeshService) -> None:
        """Let *service* send more than fits into its link with *to*, which reads no more."""
        self.network.between(self.host(service), self.host(to))[1].reads = False
        for number in range(10):
            service.send(number, b"x" * 500_000)
        self.network.pump()

    def fill(self, service: MeshService) -> int:
        """Send until there is no more room; return the number of messages."""
        for count in range(100):
            try:
                service.send(count, BIG)
            except Congested:
                return count
            self.network.pump()
        raise AssertionError("never congested")

    def received(self, service: MeshService) -> list[Message]:
        """Every message that *service* was delivered."""
        return self.mesh.received(self.services.index(service))

    def events(self, service: MeshService) -> list[tuple[str, Any]]:
        """All events that *service* emitted but ``message``, and but ``member``, which most tests cause."""
        events = self.mesh.events(self.services.index(service))
        return [(name, what) for name, what in events if name != "member"]

    def got(self, service: MeshService, author: MeshService | None = None) -> list[Any]:
        """The first packet of every message that *service* was delivered, or of those of *author*."""
        return [
            message.packets[1]
            for message in self.received(service)
            if (author is None or message.sender == author.id) and message.packets[1] != _MEASURING
        ]

    def measured(self, *services: MeshService) -> None:
        """Let *services* measure how fast their neighbours read, so that they push to them from now on."""
        for service in services:
            service.send(_MEASURING, bytes(5000))
        self.network.pump()

    def happened(self, service: MeshService, name: str) -> list[Any]:
        """The arguments of all events *name* that *service* emitted."""
        events = self.mesh.events(self.services.index(service))
        return [what for event, what in events if event == name]

    def reasons(self, service: MeshService) -> list[str]:
        """The reasons of all ``refused`` events of *service*."""
        return [refusal.reason for refusal in self.happened(service, "refused")]

    def result_of(self, waiting: Deferred[T], *, after: float = 0) -> T:
        """The result that *waiting* has *after* seconds, when all is done that can be done by then."""
        self._pass(after)
        return self.successResultOf(waiting)

    def failure_of(self, waiting: Deferred[Any], *errors: type[Exception], after: float = 0) -> Any:
        """The exception, one of *errors*, that *waiting* has failed with *after* seconds."""
        self._pass(after)
        return self.failureResultOf(waiting, *errors).value

    def _pass(self, seconds: float) -> None:
        if seconds:
            self.network.advance(seconds)
        else:
            self.network.pump()

    def run_to_end(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that does not have to wait."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    @staticmethod
    def lasting(footprint: dict[str, int]) -> dict[str, int]:
        """*footprint* without entries that change: who brought records, was heard once, has connected."""
        changing = ("first_arrivals", "accept_rates", "author_sites", "sites_met", "authors_heard_once")
        return {name: count for name, count in footprint.items() if name not in changing}

    @staticmethod
    def parts_of(service: MeshService) -> RunningNode:
        """The parts of a service that runs: for a test that makes one fail, or sees what no value tells."""
        return service._running()

    def status_of(self, service: MeshService) -> Status:
        """The state of the core of a service that runs."""
        return self.parts_of(service).driver.node.status()

    def file_of(self, service: MeshService) -> SqliteStore:
        """The history file of a service that runs."""
        store = self.parts_of(service).writer.store  # type: ignore[union-attr]
        assert isinstance(store, SqliteStore)
        return store

    def fail_once(self, part: type, method: str) -> None:
        """Let the next call of *method* of a *part* of a node raise ZeroDivisionError."""
        works = getattr(part, method)

        def fail(*_: object) -> None:
            self.patch(part, method, works)
            raise ZeroDivisionError

        self.patch(part, method, fail)

    # ── the log ─────────────────────────────────────────────────────────────────────

    def log(self, part: str = "") -> list[str]:
        """The log lines of the package that contain *part*."""
        return [
            line
            for event in self._lines
            if event.get("log_namespace", "").startswith("twisted_mesh")
            if part in (line := formatEvent(event))
        ]

    # ── peers that misbehave ────────────────────────────────────────────────────────

    def is_encrypted(self, encrypted: bool | None) -> bool:
        """Whether a connection of a scripted peer is encrypted; None: as those of the nodes."""
        return self.encryption == "SSL" if encrypted is None else encrypted

    def tls(self) -> Tls:
        """TLS for scripted peers."""
        if not _tls:
            _tls.append(Tls(self.network.clock))
        _tls[0]._clock = self.network.clock
        return _tls[0]

    def dial(
        self, peer: Raw, service: MeshService, *, host: str = "10.9.9.9", encrypted: bool | None = None
    ) -> Any:
        """Let *peer* dial *service*; the connection is made, and no bytes have passed yet."""
        endpoint: IStreamClientEndpoint = self.network.dial_from(host)(self.host(service), PORT)
        if self.is_encrypted(encrypted):
            endpoint = self.tls().client(endpoint)
        made = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.network.clock.advance(0)
        self.successResultOf(made)
        return peer

    def serve(self, peers: Iterable[Raw], *, host: str = "10.9.9.9", encrypted: bool | None = None) -> None:
        """Let *peers* accept one connection each at *host*."""
        waiting = iter(peers)
        factory: Any = Factory.forProtocol(lambda: next(waiting))
        if self.is_encrypted(encrypted):
            factory = self.tls().factory(factory)
        self.successResultOf(self.network.listen(host, PORT).listen(factory))

    def puppet(
        self,
        side: Side = Side.DIALLER,
        *,
        identity: Identity | None = None,
        encrypted: bool | None = None,
        purpose: Purpose = Purpose.JOIN,
        frontier: bool = True,
        **options: Any,
    ) -> Puppet:
        """A scripted peer that shakes hands; *options* are fields of its LocalNode."""
        me = identity or Identity.generate()
        network = MeshNetwork("mesh", "SSL" if self.is_encrypted(encrypted) else "Plaintext")
        values = {"id": me.id, "origin": me.origin, "epoch": 1, "network": network, "address": None}
        values |= {"settled": True, "sign": me.sign, "verify": verify, "sealing": HpkeKeys()}
        puppet = Puppet(side, LocalNode(**(values | options)), frontier=frontier)
        puppet.handshake.purpose = purpose
        return puppet

    def met(self, service: MeshService, *, host: str = "10.9.9.9", **options: Any) -> Puppet:
        """A puppet that has dialled *service*, linked or not; *options* as for :meth:`puppet`."""
        puppet: Puppet = self.puppet(**options)
        self.dial(puppet, service, host=host, encrypted=options.get("encrypted"))
        self.network.pump()
        return puppet

    def send_frames(self, peer: Puppet, *frames: codec.Signed | codec.Plain, after: float = 0) -> None:
        """Let *peer* send *frames*; then let *after* seconds pass."""
        peer.send(*frames)
        self._pass(after)

    def joined(self, service: MeshService, *, roster: bool = True, **options: Any) -> Puppet:
        """A puppet that is linked with *service*, and has told it an empty roster if *roster* is true."""
        puppet = self.met(service, **options)
        self.assertIn(puppet.me.id, service.routing_table)
        if roster:
            self.send_frames(puppet, Roster(True, [], 0))
        return puppet


class TlsCase(MeshCase):
    """A :class:`MeshCase` whose links are always encrypted."""

    encryption = "SSL"


async def take(queue: MessageQueue, count: int) -> list[Any]:
    """Take *count* messages; return the first packet of each."""
    return [(await anext(queue)).packets[1] for _ in range(count)]


async def rest(queue: MessageQueue) -> list[Any]:
    """Take messages to the end of *queue*; return the first packet of each."""
    return [message.packets[1] async for message in queue]


async def consume(queue: MessageQueue, into: list[Any]) -> None:
    """Take messages to the end of *queue*; add the first packet of each to *into* at once."""
    [into.append(message.packets[1]) async for message in queue]


#: Of the batches that each run has signed here, the hash by the last message.
_HASHES: dict[tuple[bytes, int], dict[int, bytes]] = {}


def batch(author: LocalNode, first: int, *packets: object, **changed: Any) -> SignedBatch:
    """A batch that *author* has signed, with a message for each of *packets*."""
    body = join_entries([pack_entry(0, [packet]) for packet in packets])
    hashes = _HASHES.setdefault((author.origin, author.epoch), {})
    values = {
        "count": max(1, len(packets)),
        "sent": 1000,
        "encoding": 0,
        "previous": hashes.get(first - 1, bytes(32)),
    } | changed
    body = values.pop("body", body)
    value = Batch(author.origin, author.epoch, first, **values)
    signed = codec.sign_batch(value, body, codec.network_digest(author.network_id), author.sign)
    hashes[value.last] = signed.header.hash
    return signed

"""Makes the status of a running node (:mod:`twisted_mesh.status`) out of the values of its parts.

Contract: this only reads, and only when somebody asks for the status; nothing else is kept for it than the
time since when the node has no neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from twisted_mesh.addressing.addresses import show
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.status import LinkReport, Report, StreamReport
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.delivery.members import Members
from twisted_mesh.delivery.receipts import Receipts
from twisted_mesh.escaping import name_of
from twisted_mesh.grammar import counted, were
from twisted_mesh.identity import id_of
from twisted_mesh.links.connections import Connections, Unlinked
from twisted_mesh.links.peers import DialledPeer, PersistentPeers
from twisted_mesh.message import Member
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.status import (
    AuthorStatus,
    ConsumerStatus,
    HeldStatus,
    HistoryStatus,
    LinkStatus,
    MemberStatus,
    NodeStatus,
    PeerStatus,
    ReceiptStatus,
    Status,
)
from twisted_mesh.storage.writer import HistoryWriter
from twisted_mesh.trace import Step
from twisted_mesh.version import __version__
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.tracing import (
    MOST_NAMED,
    Asked,
    Known,
    LagAnswer,
    LinksAnswer,
    LinksQuestion,
    Told,
    WayAnswer,
    WayQuestion,
)

Labels = Mapping[bytes, str | None]  # by id
_STATES: Final[dict[int, str]] = {Known.MISSING: "missing", Known.CAME: "came"}
LAG_SECONDS: Final = (
    1.0  # for which it is told again how much this node lacks: 4,096 runs take 5 ms (guess)
)
#: Seconds in which a program may open its consumer again before messages that wait are warned of (guess).
UNOPENED: Final = 60.0
ALONE: Final = 5.0  # seconds without a neighbour before the status warns of that (guess)
KEY_IN_USE: Final = (
    "another node uses this node's key, so this node publishes nothing: stop the other node, or give one "
    "of the two an identity of its own"
)
RUN_IS_OVER: Final = (
    "another node has signed messages in this node's run, and no new run can begin yet, so this node "
    "publishes nothing: stop the other node, and let the file beside the key be written"
)
CANNOT_STORE: Final = (
    "the history file cannot be written, so send() raises StoreFull: make room on its disk, or let this "
    "user write the file"
)
CONGESTED: Final = (
    "send() raises Congested: the neighbours take this node's messages too slowly, or there is none"
)
NOT_DIALLED: Final = (
    "no other node is told where to dial this one: listen at an address that others can reach, or give "
    "out_addr"
)
SILENT: Final = (
    "the peers are dialled, and none has refused yet; one that says nothing may want a secret (--secret), "
    "or be behind a firewall"
)


class Where(NamedTuple):
    """The addresses where a node listens, and the one that others are told, if there is one."""

    addresses: tuple[Address, ...]
    told: Address | None


class Reporting:
    """Makes the status of one run of a service."""

    def __init__(
        self,
        driver: Driver,
        connections: Connections,
        members: Members,
        delivery: Delivery,
        receipts: Receipts,
        peers: PersistentPeers,
        writer: HistoryWriter | None,
    ) -> None:
        self._clock = driver.clock
        self._driver = driver
        self._connections = connections
        self._members = members
        self._delivery = delivery
        self._receipts = receipts
        self._peers = peers
        self._writer = writer
        self._began = self._alone_since = driver.clock.seconds()
        self._lag: tuple[float, LagAnswer] | None = None  # the last, and when it was made

    def unlinked(self, _: Unlinked) -> None:
        """Note that a link has left the routing table."""
        self._alone_since = self._clock.seconds()

    def status(self, where: Where, dropped: Mapping[str, int], footprint: dict[str, int]) -> Status:
        """The node now.

        :param dropped: and *footprint*: the totals of the service.
        """
        now, report = self._clock.seconds(), self._driver.node.report()
        labels = {member.id: member.label for member in self._members.table.values()}
        labels[self._driver.id] = self._driver.local_node().profile.label
        authors = [self._author(stream, labels) for stream in report.streams]
        return Status(
            self._node(where, now),
            list(self._links(report, labels, now)),
            [_peer(peer) for peer in self._peers],
            [_member(member) for member in self._members.table.values()],
            authors,
            list(self._open_receipts()),
            self._consumers(),
            self._history(report, now),
            dict(dropped),
            footprint,
            list(self._warnings(where, authors, now)),
        )

    def held(self) -> list[HeldStatus]:
        """The messages that this node holds, by runs."""
        runs = self._driver.node.held_runs(self._clock.seconds())
        names = [id_of(held.run[0]) for held in runs]
        return [
            HeldStatus(
                node_id.decode(), self.label_of(node_id), held.run[1],
                held.first, held.last, held.bytes, held.oldest, held.newest,
            )
            for held, node_id in zip(runs, names, strict=True)
        ]  # fmt: skip

    def answer(self, question: Asked) -> Told:
        """This node's answer to a *question* of another node."""
        if isinstance(question, WayQuestion):
            return self.way((question.origin, question.epoch), question.sequence)
        if isinstance(question, LinksQuestion):
            return LinksAnswer(self.neighbours()[:MOST_NAMED])
        return self.lag()

    def lag(self) -> LagAnswer:
        """How much this node lacks; others can ask often, so it is looked up once a second at most."""
        now = self._clock.seconds()
        if self._lag is None or now >= self._lag[0] + LAG_SECONDS:
            streams, taken = self._driver.node.report().streams, self._delivery.taken_by_all
            missing = sum(stream.missing for stream in streams)
            untaken = sum(stream.head - taken(stream.run, stream.head) for stream in streams)
            self._lag = now, LagAnswer(missing, untaken)
        return self._lag[1]

    def neighbours(self) -> list[bytes]:
        """The origins of the nodes that this node is linked with."""
        peers = (link.peer for link in self._connections.table.values())
        return [peer.origin for peer in peers if peer is not None]

    def way(self, run: StreamId, sequence: int) -> WayAnswer:
        """What this node knows about the way of the message *sequence* of *run*."""
        node, now = self._driver.node, self._clock.seconds()
        head, own = node.head(run), run == node.run
        there = sequence <= head
        taken = there and (own or self._delivery.taken_by_all(run, head) >= sequence)
        way, taken_at = node.way(run, sequence)
        if way is None:
            known = Known.FORGOTTEN if there else Known.MISSING
            return WayAnswer(known, None, False, 0, 0, taken, None, [])
        held = None if taken_at is None else _milliseconds(taken_at - way.came_at)
        pushed = list(way.pushed[:MOST_NAMED])
        age = _milliseconds(now - way.came_at)
        return WayAnswer(Known.CAME, way.source, way.pulled, way.hops, age, taken, held, pushed)

    def step(self, node_id: bytes, answer: WayAnswer, names: Mapping[bytes, str]) -> Step:
        """The *answer* of a node as a value; *names* has the id of each node that it names, by origin."""
        held = None if answer.held is None else answer.held / 1000
        return Step(
            node_id.decode(),
            self.label_of(node_id),
            _STATES.get(answer.known, "forgotten"),
            None if answer.source is None else names[answer.source],
            answer.pulled,
            answer.hops,
            answer.age / 1000,
            answer.taken,
            held,
            [names[origin] for origin in answer.pushed],
        )

    def label_of(self, node_id: bytes) -> str | None:
        """The label of this node or of a member; None if it has none, or no such node is known."""
        if node_id == self._driver.id:
            return self._driver.local_node().profile.label
        member = self._members.table.get(node_id)
        return None if member is None else member.label

    def _node(self, where: Where, now: float) -> NodeStatus:
        me, core = self._driver.local_node(), self._driver.node.status()
        return NodeStatus(
            id=me.id.decode(),
            label=me.profile.label,
            version=__version__,
            subnet=me.network.subnet,
            encryption=me.network.encryption,
            role=me.profile.role.name.lower(),
            trust=me.policy.told,
            epoch=me.epoch,
            uptime_seconds=now - self._began,
            addresses=[show(address) for address in where.addresses],
            told_address=None if where.told is None else show(where.told),
            joined=core.joined,
            messages_sent=core.sent,
            messages_delivered=self._delivery.delivered,
            messages_waiting=self._driver.unsent,
        )

    def _links(self, report: Report, labels: Labels, now: float) -> Iterator[LinkStatus]:
        reports: dict[int, LinkReport] = {each.link: each for each in report.links}
        for node_id, link in self._connections.table.items():
            if (core := reports.get(link.number)) is not None:
                yield LinkStatus(
                    peer=node_id.decode(),
                    label=labels.get(node_id),
                    remote_address=show(link.remote),
                    outgoing=link.outgoing,
                    up_seconds=now - link.made_at,
                    round_trip_seconds=core.round_trip,
                    received_bytes=link.read_bytes,
                    received_frames=link.received_frames,
                    sent_bytes=link.sent_bytes,
                    sent_frames=link.sent_frames,
                    queued_bytes=link.queued_bytes,
                    lazy_by_us=core.lazy_by_us,
                    lazy_by_peer=core.lazy_by_peer,
                )

    def _author(self, stream: StreamReport, labels: Labels) -> AuthorStatus:
        origin, epoch = stream.run
        node_id = id_of(origin)
        return AuthorStatus(
            id=node_id.decode(),
            label=labels.get(node_id),
            epoch=epoch,
            head=stream.head,
            behind=stream.high - stream.head,
            missing=stream.missing,
            taken=self._delivery.taken_by_all(stream.run, stream.head),
            taken_by=self._delivery.places(stream.run, stream.head),
            repaired=stream.fetched,
        )

    def _open_receipts(self) -> Iterator[ReceiptStatus]:
        for receipt in self._receipts:
            if receipt.id is not None:
                _, epoch, sequence = receipt.id
                sets = (receipt.delivered, receipt.pending, receipt.missed)
                yield ReceiptStatus(epoch, sequence, *map(_texts, sets))

    def _consumers(self) -> list[ConsumerStatus]:
        consumers = self._delivery.named.values().values()
        return [ConsumerStatus(one.name, one.lag, one.open, one.since) for one in consumers]

    def _history(self, report: Report, now: float) -> HistoryStatus:
        config, store = self._driver.config, None if self._writer is None else self._writer.store
        return HistoryStatus(
            memory_bytes=report.held_bytes,
            memory_limit_bytes=config.history_bytes,
            oldest_seconds=None if report.oldest_at is None else now - report.oldest_at,
            file=None if store is None else store.name,
            file_bytes=0 if store is None else store.footprint()["stored_bytes"],
            file_limit_bytes=0 if store is None else config.store_bytes,
        )

    # ── warnings ────────────────────────────────────────────────────────────────────

    def _warnings(self, where: Where, authors: Iterable[AuthorStatus], now: float) -> Iterator[str]:
        node = self._driver.node
        if node.has_key_conflict:
            yield KEY_IN_USE
        if node.is_over:
            yield RUN_IS_OVER
        if self._writer is not None and self._writer.full:
            yield CANNOT_STORE
        if (warning := self._driver.local_node().policy.warning) is not None:
            yield warning
        yield from self._unreachable(now)
        if node.status().congested:
            yield CONGESTED
        if where.addresses and where.told is None:
            yield NOT_DIALLED
        for author in authors:
            if author.missing:
                name, missing = name_of(author.id, author.label), counted(author.missing, "message")
                yield (
                    f"missing from {name}: {missing}; this node asks for them, and tells a gap if no "
                    "member has them"
                )
        unopened_since = self._delivery.named.now() - UNOPENED
        for consumer in self._consumers():
            if not consumer.open and consumer.lag and consumer.since_unix_seconds <= unopened_since:
                yield (
                    f"nobody has the consumer {consumer.name!r} open: {were(consumer.lag, 'message')} not "
                    "taken, and receipts wait for it; open it, or let it go (mesh forget --consumer)"
                )

    def _unreachable(self, now: float) -> Iterator[str]:
        """Warn of peers that cannot be reached, in one sentence if there is no neighbour at all."""
        reasons = [f"{failing.address}: {failing.reason}" for failing in self._peers.failing()]
        alone = 0.0 if self._connections.table else now - self._alone_since
        if alone < ALONE:
            yield from (f"a peer cannot be reached: {reason}" for reason in reasons)
        elif reasons:
            yield f"no neighbour for {alone:.0f} s: {'; '.join(reasons)}"
        elif len(self._peers):
            yield f"no neighbour for {alone:.0f} s: {SILENT}"
        else:
            yield f"no neighbour for {alone:.0f} s: give this node a peer, or let another node dial it"


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _peer(peer: DialledPeer) -> PeerStatus:
    node_id = None if peer.node_id is None else peer.node_id.decode()
    return PeerStatus(peer.address, node_id, peer.failures, peer.reason if peer.failures else "")


def _member(member: Member) -> MemberStatus:
    return MemberStatus(
        id=member.id.decode(),
        label=member.label,
        state=member.state,
        since_unix_seconds=member.since,
        address=None if member.address is None else show(member.address),
        role=member.role,
        tags=dict(member.tags),
    )


def _texts(ids: Iterable[bytes]) -> list[str]:
    return sorted(each.decode() for each in ids)

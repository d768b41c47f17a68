"""What clients send and ask by POST: messages, requests, queries and pings.

Contract: each method takes the body of a request, and returns the answer, or a Deferred of it.  If that is
cancelled, nothing is awaited any more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NoReturn

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import http

from twisted_mesh.admin.bodies import Forget, Lag, Ping, Query, Reader, Request, Send, SentReceipt, Trace
from twisted_mesh.admin.site import Refused
from twisted_mesh.cli.json_values import as_json
from twisted_mesh.delivery.names import UnknownName, member_named
from twisted_mesh.delivery.query import Query as Answers
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import NoReply, NotRunning, Unreachable
from twisted_mesh.escaping import name_of
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.flags import broadcast, whisper
from twisted_mesh.message import Member, Message
from twisted_mesh.service import MeshService
from twisted_mesh.trace import Neighbours

GRAPH_SECONDS: Final = 2.0  # for which an answer of all members is given again (guess) ...
GRAPH_MEMBERS: Final = 50.0  # ... and one more for each so many members: to ask one costs 1 ms (guess)
GRAPH_TIMEOUT: Final = 2.0  # seconds for which the members may take to answer (guess)
_AT_ONCE: Final = 32  # pings that are sent in one turn of the reactor: 4 ms (measured)
RECEIPTS: Final = 64  # the newest, of what clients sent (guess: 3 MB with 1,000 members)
_SEND: Final = Reader(Send, '{"packets": […]}')
_REQUEST: Final = Reader(Request, '{"to": "name", "packets": […]}')
_QUERY: Final = Reader(Query, '{"packets": […]}')
_PING: Final = Reader(Ping, '{"to": "name", "wait_seconds": 5}')
_RECEIPT: Final = Reader(SentReceipt, '{"receipt": the number from /send}')
_LAG: Final = Reader(Lag, '{"wait_seconds": 5}')
_FORGET: Final = Reader(Forget, '{"member": "name"} or {"consumer": "name"}')
_GONE: Final = ("down", "left")
_NOBODY: Final[Mapping[bytes, Member]] = MappingProxyType({})
_TRACE: Final = Reader(Trace, '{"author": "name", "sequence": 1}')
_epoch: Final = attrgetter("epoch")


class Asking:
    """Sends and asks by one node."""

    def __init__(self, clock: IReactorTime, node: MeshService) -> None:
        self._clock = clock
        self._node = node
        self._graphs = WaitingDeferreds[list[Neighbours]]()
        self._graph: list[Neighbours] | None = None  # the last answer, until it is too old
        self._forgetting: IDelayedCall | None = None  # until then
        self._asks_graph = False
        # By number, with the members that were there: one that is forgotten meanwhile has a name, too.
        self._receipts: OrderedDict[int, tuple[Receipt, Mapping[bytes, Member]]] = OrderedDict()
        self._numbered = 0  # how many receipts had numbers

    def stop(self) -> None:
        """Keep no answer any more: the node stops."""
        self._receipts.clear()
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.cancel()
        self._graph = None

    def footprint(self) -> dict[str, int]:
        return {
            "graph_neighbours": sum(len(node.neighbours) for node in self._graph or ()),
            "control_receipts": len(self._receipts),
        }

    def send(self, body: bytes) -> Any:
        """Send a message to everybody, or to one member."""
        send: Send = _SEND.read(body)
        if send.receipt and (send.to is not None or send.wait_seconds):
            raise Refused(http.BAD_REQUEST, "receipt is without to, and without wait_seconds")
        if send.to is not None:
            return self._send_to(send, self._member(send.to))
        type_ = broadcast if send.type is None else send.type
        if send.receipt:
            return self._with_receipt(self._node.send(*send.packets, type=type_, receipt=True))
        if not send.wait_seconds:
            self._node.send(*send.packets, type=type_)
            return {"sent": True, "neighbours": len(self._node.routing_table)}
        receipt = self._node.send(*send.packets, type=type_, receipt=True)
        there = dict(self._node.members)  # a member that is forgotten meanwhile has a name, too
        return receipt.complete(send.wait_seconds).addBoth(partial(self._who_has_it, receipt, there))

    def receipt(self, body: bytes) -> Deferred[Any]:
        """Wait until all members have a message that a client sent, and say who has it."""
        sent: SentReceipt = _RECEIPT.read(body)
        if sent.receipt not in self._receipts:
            told = (
                f"no receipt {sent.receipt} is kept: the newest {RECEIPTS} since the start of the node are"
            )
            raise Refused(http.NOT_FOUND, told)
        receipt, there = self._receipts[sent.receipt]
        return receipt.complete(sent.wait_seconds).addBoth(partial(self._who_has_it, receipt, there))

    def request(self, body: bytes) -> Deferred[Any]:
        """Send a message to one member, and await its answer."""
        request: Request = _REQUEST.read(body)
        member = self._member(request.to)
        type_ = whisper if request.type is None else request.type
        asked = self._node.request(member.id, *request.packets, timeout=request.wait_seconds, type=type_)
        return asked.addCallback(self._answer).addErrback(_with_name, member)

    def query(self, body: bytes) -> Deferred[Any]:
        """Send a message to everybody, and await the answers."""
        query: Query = _QUERY.read(body)
        type_ = broadcast if query.type is None else query.type
        answers = self._node.query(*query.packets, timeout=query.wait_seconds, type=type_)
        return Deferred.fromCoroutine(self._gather(answers))

    def ping(self, body: bytes) -> Deferred[Any]:
        """Find out which members answer, and how fast."""
        ping: Ping = _PING.read(body)
        there = [member for member in self._node.members.values() if member.state != "left"]
        members = there if ping.to is None else [self._member(ping.to)]
        return Deferred.fromCoroutine(self._ping(members, ping.wait_seconds))

    def lag(self, body: bytes) -> Deferred[Any]:
        """Find out how many messages each node lacks."""
        lag: Lag = _LAG.read(body)
        return self._node.lag(lag.wait_seconds)

    def trace(self, body: bytes) -> Deferred[Any]:
        """Find out by which way a message came to each node."""
        trace: Trace = _TRACE.read(body)
        status, everyone = self._node.status(), list(self._node.members.values())
        author = trace.author  # the id of an author may be that of no member, as of a guest
        if all(run.id != author for run in status.authors):
            author = member_named(author, [self._me(), *everyone]).id.decode()
        newest = max((run for run in status.authors if run.id == author), default=None, key=_epoch)
        epoch = trace.epoch if trace.epoch is not None or newest is None else newest.epoch
        sequence = trace.sequence if trace.sequence is not None or newest is None else newest.head
        if epoch is None or not sequence:
            raise Refused(http.NOT_FOUND, f"no message of {trace.author!r} is known here")
        return self._node.trace((author.encode(), epoch, sequence), trace.wait_seconds)

    def author_named(self, name: str) -> bytes:
        """The id of an author whose messages are held: of a member, of this node, or of one that is gone.

        :raises UnknownName: there is none, or more than one.
        """
        known = {self._node.id: self._me(), **self._node.members}
        for run in self._node.status().authors:
            gone = Member(run.id.encode(), run.label, {}, None, "guest", "gone", 0.0, run.epoch)
            known.setdefault(gone.id, gone)
        try:
            return member_named(name, known.values()).id
        except UnknownName:
            return member_named(name, known.values(), left=True).id

    def forget(self, body: bytes) -> Any:
        """Have all nodes forget a member that is down or has left; or let this node forget a consumer."""
        forget: Forget = _FORGET.read(body)
        if (forget.member is None) == (forget.consumer is None):
            told = 'the body must look like {"member": "name"} or {"consumer": "name"}'
            raise Refused(http.BAD_REQUEST, told)
        if forget.consumer is not None:
            return self._forget_consumer(forget.consumer)
        return self._forget_member(str(forget.member))

    def _forget_consumer(self, name: str) -> Any:
        if name not in self._node.consumers:
            raise Refused(http.NOT_FOUND, f"there is no consumer {name!r}")
        self._node.forget_consumer(name)
        return {"forgotten": True, "consumer": name}

    def _forget_member(self, name: str) -> Any:
        members = self._node.members.values()
        try:
            member = member_named(name, [one for one in members if one.state in _GONE], left=True)
        except UnknownName:
            member = member_named(name, members, left=True)  # raises, unless it is there
            named = name_of(member.id.decode(), member.label)
            told = f"{named} is {member.state}: only members that are down or have left are forgotten"
            raise Refused(http.CONFLICT, told) from None
        self._node.forget(member.id)
        return {"forgotten": True, "id": member.id.decode(), "label": member.label}

    def graph(self, _: bytes) -> Deferred[list[Neighbours]]:
        """Find out who is linked with whom.  Clients that ask in the same seconds share one question."""
        if self._graph is not None:
            return succeed(self._graph)
        if self._asks_graph:
            return self._graphs.wait()
        asked = self._node.graph(GRAPH_TIMEOUT)  # if it raises, the next client asks anew
        waiting = self._graphs.wait()
        self._asks_graph = True
        until = self._clock.seconds() + GRAPH_SECONDS + len(self._node.members) / GRAPH_MEMBERS
        asked.addCallbacks(self._graph_told, self._graph_failed, callbackArgs=(until,))
        return waiting

    def _graph_told(self, graph: list[Neighbours], until: float) -> None:
        self._asks_graph = False
        if (seconds := until - self._clock.seconds()) > 0:
            self._graph = graph
            self._forgetting = self._clock.callLater(seconds, self.stop)
        self._graphs.happened(graph)

    def _graph_failed(self, failure: Failure) -> None:
        self._asks_graph = False
        self._graphs.failed(failure)

    # ── one member ──────────────────────────────────────────────────────────────────

    def _send_to(self, send: Send, member: Member) -> Deferred[Any]:
        type_ = whisper if send.type is None else send.type
        acknowledged = self._node.send_to(member.id, *send.packets, type=type_)
        if send.wait_seconds:
            acknowledged.addTimeout(send.wait_seconds, self._clock)
            acknowledged.addErrback(_too_late, send.wait_seconds)
        answer = {"acknowledged": True, "member": member.id.decode(), "label": member.label}
        return acknowledged.addCallback(lambda _: answer).addErrback(_with_name, member)

    def _member(self, name: str) -> Member:
        """The other member with that name, which has not left.

        :raises UnknownName: there is none, or more than one; Refused: it has left, or is this node.
        """
        members = self._node.members.values()
        try:
            return member_named(name, members)
        except UnknownName as error:
            with suppress(UnknownName):
                found = member_named(name, [self._me(), *members], left=True)
                why = "is this node" if found.id == self._node.id else f"has {found.state}"
                text = f"{name_of(found.id.decode(), found.label)} {why}"
                raise Refused(http.NOT_FOUND, text) from error
            raise

    def _me(self) -> Member:
        """This node, as another member's table would have it."""
        me = self._node.status().node
        return Member(self._node.id, me.label, {}, None, "member", "up", 0.0, me.epoch)

    def _answer(self, message: Message) -> dict[str, Any]:
        return {
            **self._named(message.sender),
            "type": message.type,
            "packets": as_json(message.packets[1:]),
        }

    def _named(self, node_id: bytes, earlier: Mapping[bytes, Member] = _NOBODY) -> dict[str, Any]:
        member = self._node.members.get(node_id) or earlier.get(node_id)
        return {"id": node_id.decode(), "label": None if member is None else member.label}

    # ── everybody ───────────────────────────────────────────────────────────────────

    async def _gather(self, answers: Answers) -> Any:
        """All answers; of those that would make the result larger than a body may be, only the number."""
        gathered: list[msgspec.Raw] = []
        left_out, room = 0, self._node.config.control_body_bytes
        try:
            async for message in answers:
                answer = msgspec.json.encode(self._answer(message))
                if len(answer) <= room:
                    gathered.append(msgspec.Raw(answer))
                    room -= len(answer)
                else:
                    left_out += 1
        finally:
            answers.close()
        return {"answers": gathered, "left_out": left_out, "pending": self._all_named(answers.pending)}

    async def _ping(self, members: list[Member], seconds: float) -> Any:
        asked: list[Deferred[Any]] = []
        try:
            for at, member in enumerate(members, 1):
                pinged = self._node._ping(member.id, seconds)
                asked.append(
                    pinged.addCallbacks(_answered, _unanswered, errbackArgs=(member,)).addCallback(
                        partial(_pong, member)
                    )
                )
                if not at % _AT_ONCE:
                    await deferLater(self._clock, 0)
            return [await one for one in asked]
        finally:
            for one in asked:
                one.addErrback(lambda _: None)  # as it is cancelled, if it has not fired
                one.cancel()

    def _who_has_it(self, receipt: Receipt, there: Mapping[bytes, Member], result: Any) -> Any:
        if isinstance(result, Failure) and result.check(CancelledError, NotRunning):
            return result
        _, epoch, sequence = receipt.id or (None, None, None)
        return {
            "epoch": epoch,
            "sequence": sequence,
            "complete": receipt.is_complete,
            "error": result.getErrorMessage() if isinstance(result, Failure) else None,
            "delivered": self._all_named(receipt.delivered),
            "pending": self._all_named(receipt.pending),
            "missed": [
                {**self._named(node_id, there), "forgotten_by": self._asker(receipt, node_id)}
                for node_id in sorted(receipt.missed)
            ],
        }

    def _with_receipt(self, receipt: Receipt) -> Any:
        """Keep *receipt* for ``POST /receipt``, and give its number."""
        self._numbered += 1
        self._receipts[self._numbered] = receipt, dict(self._node.members)
        if len(self._receipts) > RECEIPTS:
            self._receipts.popitem(last=False)
        return {"sent": True, "neighbours": len(self._node.routing_table), "receipt": self._numbered}

    def _asker(self, receipt: Receipt, node_id: bytes) -> dict[str, Any] | None:
        by = receipt.forgotten.get(node_id)
        return None if by is None else self._named(by)

    def _all_named(self, ids: Iterable[bytes]) -> list[dict[str, Any]]:
        return [self._named(node_id) for node_id in sorted(ids)]


def _too_late(failure: Failure, seconds: float) -> None:
    """Say of a message to one member that the wait is over, though the member may still get it."""
    failure.trap(TimeoutError, DeferredTimeout)
    told = f"the member has not acknowledged it after {seconds:g} s; it may still get it"
    raise Refused(http.GATEWAY_TIMEOUT, told)


def _with_name(failure: Failure, member: Member) -> NoReturn:
    """Name *member* in an error as people know it: by its label before its id."""
    failure.trap(Unreachable, NoReply)
    name = name_of(member.id.decode(), member.label)
    raise Refused(http.GATEWAY_TIMEOUT, f"{name}: {_why(failure, member)}")


def _why(failure: Failure, member: Member) -> str:
    """The text of an error about *member*, without its id."""
    return failure.getErrorMessage().removeprefix(f"{member.id.decode()}: ")


def _answered(told: tuple[float, int]) -> dict[str, Any]:
    seconds, relays = told
    return {"round_trip_seconds": seconds, "hops": relays + 1, "error": None}


def _unanswered(failure: Failure, member: Member) -> dict[str, Any]:
    failure.trap(Unreachable)
    return {"round_trip_seconds": None, "hops": None, "error": _why(failure, member)}


def _pong(member: Member, result: dict[str, Any]) -> dict[str, Any]:
    return {"id": member.id.decode(), "label": member.label, "state": member.state, **result}

"""Mesh: a node of the mesh for programs with an asyncio loop, without knowledge of Twisted.

Contract: the node runs in the reactor's thread, and nothing here blocks the loop, which may be of any kind.
A node begins at the start of ``async with`` and has ended at its end, also if the task is cancelled.  All
else is as in :class:`~twisted_mesh.service.MeshService`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Self, overload

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock

from twisted_mesh import flags
from twisted_mesh.addressing.endpoints import Dial
from twisted_mesh.awaiting.loop_calls import LoopCalls, wait_to_the_end
from twisted_mesh.awaiting.loop_listeners import LoopListeners
from twisted_mesh.awaiting.messages import Messages, NamedMessages
from twisted_mesh.awaiting.query import Query
from twisted_mesh.awaiting.receipt import Receipt
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery.named_consumers import check_consumer
from twisted_mesh.delivery.receipts import Receipt as ServiceReceipt
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.identity import Identity
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Consumer, Member, Message, MessageId, Packet, each_of
from twisted_mesh.network import SSL, Protocol
from twisted_mesh.runtime.options import names_options
from twisted_mesh.threads.hosted_node import HostedNode
from twisted_mesh.threads.proxies import Link, with_replies
from twisted_mesh.threads.reactor_thread import reactor_thread
from twisted_mesh.threads.standard_error import log_to_standard_error
from twisted_mesh.trace import Lag, Neighbours, Trace
from twisted_mesh.trust.policy import Trust

__all__ = ["Link", "Mesh", "Messages", "NamedMessages", "Query", "Receipt"]

_NONE: Mapping[Any, Any] = MappingProxyType({})


class _Node(HostedNode):
    """The service behind a Mesh."""

    class_name = "Mesh"
    called = "mesh"


class Mesh(LoopListeners):
    """A node of the mesh, for ``async with Mesh(...) as mesh``.

    The reactor runs in a daemon thread, unless it runs already.  A Mesh can be opened again after it was
    closed; if no *identity* is given, each opening makes another node.  Use a Mesh in one loop at a time.

    Listeners are called in the loop; a listener may be a coroutine function.  Those of ``connect`` and
    ``disconnect`` get the mesh, those of ``receipt`` a receipt of :meth:`send`, those of ``failure`` an
    exception; those of ``message``, ``member``, ``gap`` and ``refused`` get the values of MeshService.

    All parameters are as in :class:`~twisted_mesh.service.MeshService`.

    :raises LocalError: an argument cannot work.
    """

    @names_options("Mesh")
    def __init__(
        self,
        listen: Iterable[str | IStreamServerEndpoint] = ("tcp:4444",),
        peers: Iterable[str | IStreamClientEndpoint] = (),
        subnet: str = "mesh",
        encryption: str = SSL,
        identity: Identity | None = None,
        out_addr: tuple[str, int] | None = None,
        trust: Trust | None = None,
        history: str | os.PathLike[str] | None = None,
        replay: float | str | None = None,
        overlay: bool = True,
        role: str = "member",
        label: str | None = None,
        tags: Mapping[str, str] = _NONE,
        dial: Dial | None = None,
        debug_level: int = 0,
        control: bool | str | os.PathLike[str] = False,
        config: MeshConfig | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "listen": _kept(listen), "peers": _kept(peers), "subnet": subnet, "encryption": encryption,
            "identity": identity, "out_addr": out_addr, "trust": trust, "history": history,
            "replay": replay, "overlay": overlay, "role": role, "label": label, "tags": tags,
            "dial": dial, "debug_level": debug_level, "control": control, "config": config,
        }  # fmt: skip
        # A service checks all arguments.  The node itself is made at each opening, because an application
        # may make its Mesh, fork, and open it in several processes, each of which needs a key of its own.
        checked = _Node(Clock(), **self._options)
        super().__init__(checked.config)
        self._protocol = checked.protocol
        self._node: _Node | None = None  # the newest
        self._is_open = False
        self._waited_for: set[Messages] = set()
        self._early: list[Messages] = []  # iterators that were made before the node

    # ── opening and closing ─────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Start the node; it listens when this returns.

        :raises ListenFailed: an OSError: the node cannot listen, for example because the port is taken.
        :raises NotRunning: this process was forked from one in which the reactor ran.
        """
        if self._loop_calls is not None:
            raise RuntimeError("this Mesh is open already: make another one")
        thread = reactor_thread()
        thread.check_process()
        calls = LoopCalls(thread, asyncio.get_running_loop())
        calls.loop_closed = self._loop_closed
        log_to_standard_error(self._options["debug_level"])
        self._loop_calls, self._node = calls, None
        try:
            self._hear()
            await wait_to_the_end(calls.call(self._open, calls))
            await calls.call(self._opened().ready)
        except BaseException:
            await self._close(calls)
            raise
        self._is_open = True
        while self._early:
            calls.later(self._early.pop().attach, self._node, calls)
        return self

    def _open(self, calls: LoopCalls) -> None:
        node = _Node(calls.thread.reactor, **self._options)
        node.tell(self._tell, self)
        node.on("receipt", partial(self._receipt_changed, calls))
        node.on("failure", lambda failure: self._tell("failure", failure.value))
        node.stopped = lambda: None
        calls.thread.start(node, node.class_name)
        while self._early:  # in the turn of the start, so that each gets all messages
            self._early.pop().attach(node, calls)
        self._node = node

    async def __aexit__(self, *_: object) -> None:
        """Cancel the coroutines of listeners, hand over unsent messages, and close everything.

        Each step has a time limit.  If the task is cancelled meanwhile, all steps are done all the same.
        """
        if self._loop_calls is not None:
            await self._close(self._loop_calls)

    async def _close(self, calls: LoopCalls) -> None:
        self._is_open = False
        async with AsyncExitStack() as end:  # all of these run, the last first, even if some are cancelled
            end.callback(self._closed)
            end.push_async_callback(self._end_tasks)  # of events that came while the node stopped
            if self._node is not None:
                end.push_async_callback(self._stop, calls, self._node)
            end.push_async_callback(self._end_tasks)  # while they can still send

    async def _stop(self, calls: LoopCalls, node: _Node) -> None:
        with suppress(NotRunning):  # the reactor has ended and has stopped the node, or this is a fork
            await wait_to_the_end(calls.call(calls.thread.stop, node))

    def _closed(self) -> None:
        self._loop_calls = self._heard = None

    def _loop_closed(self) -> None:
        if self._loop_calls is not None and self._node is not None and not self._node.closed:
            self._loop_calls.thread.stop(self._node)

    def _opened(self) -> _Node:
        if self._node is None:
            raise NotRunning("the mesh is not open: use it inside `async with`")
        return self._node

    def _call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Call *f* in the reactor's thread if the mesh is open."""
        node = self._opened()
        if self._loop_calls is None:
            raise NotRunning("the mesh is closed")
        return self._loop_calls.call(node.if_open, f, *args, **kwargs)

    # ── the node as values ──────────────────────────────────────────────────────────

    @property
    def id(self) -> bytes:
        """This node's id, base58; as the other properties, once the mesh was opened."""
        return self._opened().id

    @property
    def protocol(self) -> Protocol:
        """The network that the node belongs to."""
        return self._protocol

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each port that is bound."""
        return self._opened().addresses

    @property
    def out_addr(self) -> tuple[str, int] | None:
        """(host, port) that others are told to dial; None if there is no address that they can reach."""
        return self._opened().out_addr

    @property
    def routing_table(self) -> dict[bytes, Link]:
        """The neighbours by id, as they are now."""
        node, calls = self._opened(), self._loop_calls
        return {} if calls is None else node.links(calls)

    @property
    def members(self) -> dict[bytes, Member]:
        """The other members by id, as this node knows them now."""
        return self._opened().members_now()

    @property
    def dropped(self) -> dict[str, int]:
        """How many items this node dropped or ignored so far, by kind (docs/service.rst).

        ``dropped_events`` counts events for which the loop was too slow, since the Mesh was made.
        """
        return {**self._opened().dropped, "dropped_events": self.dropped_events}

    # ── links ───────────────────────────────────────────────────────────────────────

    async def connect(self, host: str, port: int) -> Link:
        """Link with the node at *host* ('' for this host) and *port*, and keep the link up.

        :return: the link, once it is in the routing table.
        :raises ConnectFailed: an OSError: nothing listens there.
        :raises SubnetMismatch: the node there is of another subnet; EncryptionMismatch, SelfConnection,
            HandshakeTimeout or another RemoteError: the link is refused for another reason.
        :raises LocalError: *port* is no port; NotRunning: the mesh is not open.
        """
        node, calls = self._opened(), self._loop_calls
        link: MeshProtocol = await self._call(node.connect, host, port)
        assert calls is not None
        return Link(calls, link)

    async def stop_dialling(self, host: str, port: int) -> bool:
        """Stop keeping up the link to *host* and *port* for which :meth:`connect` or *peers* asked.

        A link that is up stays until it is lost or :meth:`disconnect` closes it.

        :return: whether the node kept up a link to that address, or dialled it.
        :raises LocalError: *port* is no port; NotRunning: the mesh is not open.
        """
        has: bool = await self._call(self._opened().stop_dialling, host, port)
        return has

    async def forget(self, member: bytes) -> None:
        """Have all nodes forget a member that is down or has left, until it speaks again.

        :param member: the member's id, as in :attr:`members`.
        :raises LocalError: there is no such member, it is up, or this node is a guest or may only listen;
            NotRunning: the mesh is not open.
        """
        await self._call(self._opened().forget, member)

    async def disconnect(self, link: Link) -> None:
        """Close *link*, and do not dial its node for ``redial_forbidden`` seconds.

        :raises LocalError: *link* is no link of :attr:`routing_table`.
        """
        if not isinstance(link, Link):
            raise LocalError(f"only a link of routing_table can be closed, not {link!r}")
        await self._call(self._opened().disconnect, link.inner)

    async def joined(self) -> None:
        """Wait until a first neighbour has sent its roster, its list of members.

        :raises NotRunning: the mesh is not open, or is closed meanwhile.
        """
        await self._call(self._opened().joined)

    # ── sending and receiving ───────────────────────────────────────────────────────

    @overload
    async def send(
        self, *packets: Packet, flag: int = ..., type: int = ..., receipt: Literal[False] = False
    ) -> None: ...

    @overload
    async def send(self, *packets: Packet, type: int = ..., receipt: Literal[True]) -> Receipt: ...

    async def send(
        self,
        *packets: Packet,
        flag: int = flags.broadcast,
        type: int = flags.broadcast,
        receipt: bool = False,
    ) -> Receipt | None:
        """Send a message to everyone; each argument is a packet.

        If neighbours are slow, this waits for room, up to ``handover_timeout``.

        :param packets: ``str bytes int float bool None list dict``.
        :param flag: ``flags.whisper`` to reach direct peers only.
        :param type: the value of ``packets[0]``: 0, 2, or the application's own from 0x30 on.
        :param receipt: whether to return a live :class:`~twisted_mesh.aio.Receipt`, which shows which
            members have the message; for broadcasts only.
        :raises TypeError: and ValueError: packets, a flag or a type cannot be sent.
        :raises MessageTooLarge: the packed message has over 1 MiB.
        :raises Congested: no neighbour takes earlier messages; this one was not sent.
        :raises StoreFull: the history cannot be written, for example because the disk is full.
        :raises NotRunning: the mesh is not open.
        """
        node, calls = self._opened(), self._loop_calls
        options: dict[str, Any] = {"flag": flag, "type": type, "receipt": receipt}
        send = partial(node.send, *packets, **options)
        sent: ServiceReceipt | None = await self._call(node.in_turn, send)
        return None if sent is None or calls is None else Receipt(calls, sent)

    async def send_many(self, packets: Iterable[Packet], type: int = flags.broadcast) -> None:
        """Send a message to everyone with each of *packets*: all of these messages, or none.

        If neighbours are slow, this waits for room for all of them, up to ``handover_timeout``.

        :param packets: a list or another iterable; *type*: of all the messages, as for :meth:`send`.
        :raises TypeError: and ValueError: a packet or the type cannot be sent.
        :raises MessageTooLarge: a packed message has over 1 MiB, or all have over ``unsent_bytes``.
        :raises Congested: there was no room for all of them in time.  Other errors are those of
            :meth:`send`.
        """
        node = self._opened()
        await self._call(node.in_turn, partial(node.send_many, each_of(packets), type))

    async def send_to(self, member: bytes, *packets: Packet, type: int = flags.whisper) -> None:
        """Send a message to one member alone, and wait until that member has acknowledged it.

        :param member: the member's id, as in :attr:`members`.
        :param packets: and *type*: as for :meth:`send`.
        :raises Unreachable: the member has not acknowledged the message within ``direct_timeout``; the text
            says why.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises NotRunning: the mesh is not open.
        """
        await self._call(self._opened().send_to, member, *packets, type=type)

    async def request(
        self, member: bytes, *packets: Packet, timeout: float | None = 10.0, type: int = flags.whisper
    ) -> Message:
        """Send a message to one member alone, and wait for its answer.

        If the wait is cancelled, nothing is awaited any more.

        :param member: and *packets* and *type*: as for :meth:`send_to`.
        :param timeout: seconds until the answer must have come; None to wait without a limit.
        :return: the member's first ``message.reply()`` to this message; :meth:`messages` does not give it.
        :raises Unreachable: the member has not acknowledged the message in time; NoReply: it has, and has
            not answered in time.
        :raises Congested: too many requests wait for their answers.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the mesh is not open.
        """
        node, calls = self._opened(), self._loop_calls
        asked = self._call(node.request, member, *packets, timeout=timeout, type=type)
        assert calls is not None
        return with_replies(calls, await asked)

    async def ping(self, member: bytes, timeout: float | None = 5.0) -> float:
        """Find out whether a member's node answers; the application there is not told.

        :param member: the member's id; *timeout*: seconds; None for ``direct_timeout``.
        :return: the round trip in seconds.
        :raises Unreachable: the member has not answered in time.
        :raises TypeError: and ValueError: *member* is no id of another node.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the mesh is not open.
        """
        seconds: float = await self._call(self._opened().ping, member, timeout)
        return seconds

    async def trace(self, message_id: MessageId, timeout: float = 5.0) -> Trace:
        """Ask all members by which way a message came to them.

        :param message_id: the ``id`` of a message to everybody, or of a receipt.
        :param timeout: seconds until the answers must have come.
        :return: what each node says, this one first.
        :raises Unreachable: its author is not known here; Congested: too many traces wait for answers.
        :raises TypeError: and ValueError: *message_id* is no id of a message to everybody.
        :raises LocalError: *timeout* is no number, or below 0; or this node may only listen; NotRunning:
            the mesh is not open.
        """
        trace: Trace = await self._call(self._opened().trace, message_id, timeout)
        return trace

    async def graph(self, timeout: float = 5.0) -> list[Neighbours]:
        """Ask all members with which nodes they are linked.

        :param timeout: and the errors are as for :meth:`trace`.
        :return: what each node says, this one first.
        """
        graph: list[Neighbours] = await self._call(self._opened().graph, timeout)
        return graph

    async def lag(self, timeout: float = 5.0) -> list[Lag]:
        """Ask all members how many messages they lack, and how many their applications have not taken.

        :param timeout: and the errors are as for :meth:`trace`.
        :return: what each node says, this one first.
        """
        lag: list[Lag] = await self._call(self._opened().lag, timeout)
        return lag

    def query(self, *packets: Packet, timeout: float | None = 5.0, type: int = flags.broadcast) -> Query:
        """Send a message to everyone, and await the answers: ``async for answer in mesh.query("?")``.

        :param packets: and *type*: as for :meth:`send`.
        :param timeout: seconds until the iteration ends; None to wait until all have answered.
        :return: the answers: the first ``message.reply()`` of each node to this message.  The iteration
            ends sooner when all members that are up now have answered; it raises the errors of sending.
        :raises NotRunning: the mesh is not open.
        """
        node, calls = self._opened(), self._loop_calls
        if calls is None:
            raise NotRunning("the mesh is closed")
        query = Query(calls)
        query.begin(partial(node.if_open, node.query, *packets, timeout=timeout, type=type))
        return query

    async def drained(self) -> None:
        """Wait until messages can be sent again, after Congested, StoreFull or KeyInUse."""
        await self._call(self._opened().drained)

    @overload
    def messages(self, name: None = None) -> Messages: ...

    @overload
    def messages(self, name: str, start: str | float = "new") -> NamedMessages: ...

    def messages(self, name: str | None = None, start: str | float = "new") -> Messages:
        """The messages from now on, for ``async for message in mesh.messages()``.

        An iterator that is made before the mesh is opened gets all messages from its next opening on, with
        those that an earlier process had stored in the *history* and not taken.

        :param name: of a consumer that keeps its place, also in the *history*: the iterator goes on with
            the messages that the consumer had not taken.  A message is taken when the next one is asked
            for.
        :param start: where a consumer begins whose name is new: with ``"new"`` messages, with ``"all"``
            that are held, or with those that came in the last so many seconds.
        :raises LocalError: *name* or *start* cannot be used.  The iteration raises ConsumerInUse if the
            name is open, and LocalError if there are too many names.
        """
        check_consumer(name, start)
        waited_for = self._waited_for
        messages = Messages(waited_for) if name is None else NamedMessages(waited_for, name, start)
        if self._is_open and self._loop_calls is not None:
            self._loop_calls.later(messages.attach, self._node, self._loop_calls)
        else:
            self._early.append(messages)
        return messages

    @property
    def consumers(self) -> dict[str, Consumer]:
        """The consumers with names, by name, as they are now; none before the mesh was opened."""
        return {} if self._node is None else self._node.consumers

    async def forget_consumer(self, name: str) -> None:
        """Forget a named consumer and its place: no message and no receipt waits for it any more.

        :raises ConsumerInUse: an iterator of that name is open.
        :raises LocalError: there is no such consumer; NotRunning: the mesh is not open.
        """
        await self._call(self._opened().forget_consumer, name)

    def _receipt_changed(self, calls: LoopCalls, receipt: ServiceReceipt) -> None:
        receipt.refresh()
        self._tell("receipt", Receipt(calls, receipt))

    def __repr__(self) -> str:
        if self._node is None:
            return "<Mesh, not open>"
        state = f"links: {len(self._node.routing_table)}" if self._is_open else "closed"
        return f"<Mesh {self.id.decode()} at {self.out_addr}, {state}>"


def _kept(given: Iterable[Any]) -> Iterable[Any]:
    """*given*, for more than one use; a str stays as it is, and is refused later."""
    return tuple(given) if isinstance(given, Iterator) else given

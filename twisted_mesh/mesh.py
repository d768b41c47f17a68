"""MeshSocket: the mesh for scripts, threads and the interactive prompt, without knowledge of Twisted.

Contract: code written for py2p's MeshSocket runs with its import changed.  A call blocks until it is done,
or raises an error.  The application's handlers and listeners run in the reactor's thread, where nothing may
block: there, :meth:`MeshSocket.connect` and the methods that send to one node return Deferreds, and other
calls that would wait raise an error.  All else is as in :class:`~twisted_mesh.service.MeshService`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, Final, Literal, Self, overload

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.addressing.addresses import this_host
from twisted_mesh.blocking.messages import NamedMessages
from twisted_mesh.blocking.query import Query
from twisted_mesh.blocking.receipt import Receipt
from twisted_mesh.blocking.socket_node import OPTIONS, SocketNode
from twisted_mesh.delivery.listeners import Listeners
from twisted_mesh.delivery.query import Query as ServiceQuery
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.delivery.receipts import Receipt as ServiceReceipt
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, seconds_of, wait_at_most
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Consumer, Member, Message, MessageId, Packet, each_of
from twisted_mesh.network import Protocol
from twisted_mesh.runtime.options import check_options
from twisted_mesh.runtime.profile import checked_debug_level
from twisted_mesh.threads.proxies import Link, with_replies
from twisted_mesh.threads.reactor_thread import reactor_thread
from twisted_mesh.threads.standard_error import log_to_standard_error
from twisted_mesh.trace import Lag, Neighbours, Trace

__all__ = ["Link", "MeshSocket", "MessageQueue", "NamedMessages", "Query", "Receipt", "default_protocol"]

default_protocol: Final = Protocol("mesh", "SSL")


class MeshSocket(Listeners):
    """A node of the mesh whose calls block.

    The socket is open until :meth:`close` or the end of the process; both hand over unsent messages.  The
    reactor runs in a daemon thread, unless it runs already.  After a MeshSocket was made, ``reactor.run()``
    raises ReactorAlreadyRunning.  If an application calls ``reactor.run()`` itself, it makes its sockets in
    other threads while the reactor runs, or uses MeshService.

    Listeners of ``connect``, ``disconnect`` and ``message`` get the socket; those of ``receipt`` get a
    receipt of :meth:`send`; those of ``member``, ``gap``, ``refused`` and ``failure`` get the values that
    MeshService gives.  Add them with ``on``, ``once`` and the other methods of an ``EventEmitter``.

    :param addr: the address to listen on: '' for every IPv4 address, '::' for every IPv6 address, too.
        With either, this node tells others the LAN address.
    :param port: from 0 to 65535; 0 for a free one.
    :param prot: the network that the node belongs to.
    :param out_addr: (host, port) that others can dial, with '' as host for this host; None for the address
        on which the socket listens.
    :param debug_level: 1 logs links, 2 protocol decisions, 4 handlers entered, 5 messages in and out,
        all to standard error.  Warnings are logged at any level.
    :param service_options: any other keyword of MeshService.
    :raises ListenFailed: an OSError: the socket cannot listen, for example because the port is taken.
    :raises LocalError: an argument cannot work.
    """

    def __init__(
        self,
        addr: str,
        port: int,
        prot: Protocol = default_protocol,
        out_addr: tuple[str, int] | None = None,
        debug_level: int = 0,
        **service_options: Any,
    ) -> None:
        super().__init__()
        check_options(service_options, OPTIONS, "MeshSocket", "beside addr, port and prot ")
        if type(port) is not int or not 0 <= port < 65536:
            raise LocalError(f"port must be 0 to 65535, not {port!r}")
        if not isinstance(prot, tuple) or len(prot) != 2:
            raise LocalError(f"prot must be a base.Protocol, not {prot!r}")
        self._arrivals = WaitingDeferreds[bool]()  # fire when a message comes
        self._thread = reactor_thread()
        self._node: SocketNode
        self._queue: MessageQueue
        self._failures: deque[str]
        log_to_standard_error(checked_debug_level(debug_level))
        options = service_options | {"out_addr": out_addr, "debug_level": debug_level}
        try:
            self._thread.call(self._open, addr, port, Protocol(*prot), options)
        except BaseException:  # also an interrupt: the caller gets no socket to close
            self._thread.later(self._give_up)
            raise

    def _open(self, addr: str, port: int, prot: Protocol, options: dict[str, Any]) -> None:
        reactor = self._thread.reactor
        endpoint = TCP6ServerEndpoint if isIPv6Address(this_host(addr)) else TCP4ServerEndpoint
        listen = [endpoint(reactor, port, interface=addr)]
        node = self._node = SocketNode(
            reactor, listen=listen, subnet=prot.subnet, encryption=prot.encryption, **options
        )
        self._failures = deque(maxlen=node.config.failures_limit)
        node.stopped = self._wake
        node.tell(self.emit, self)
        node.on("receipt", lambda receipt: self.emit("receipt", Receipt(self._thread, receipt)))
        node.on("failure", self._node_failed)
        self._queue = node.receive_queue(self._arrived)
        self._thread.start(node, node.class_name)
        self._out_addr = node.shown_at()

    def _give_up(self) -> None:
        node: SocketNode | None = self.__dict__.get("_node")
        if node is not None and node.running:
            self._thread.stop(node)

    # ── properties ──────────────────────────────────────────────────────────────────

    @property
    def id(self) -> bytes:
        """This node's id, base58."""
        return self._node.id

    @property
    def out_addr(self) -> tuple[str, int] | None:
        """(host, port) that others are told to dial; else that at which this host can dial this node."""
        self._out_addr = self._node.shown_at() or self._out_addr
        return self._out_addr

    @property
    def protocol(self) -> Protocol:
        """The network that the node belongs to."""
        return self._node.protocol

    @property
    def routing_table(self) -> dict[bytes, Link]:
        """The neighbours by id, as they are now."""
        return self._node.links(self._thread)

    @property
    def members(self) -> dict[bytes, Member]:
        """The other members by id, as this node knows them now."""
        return self._node.members_now()

    @property
    def awaiting_ids(self) -> list[Link]:
        """The connections whose far end has not proven its identity, as they are now."""
        return [Link(self._thread, link) for link in self._node.awaiting()]

    @property
    def outgoing(self) -> list[bytes]:
        """The ids of the neighbours this node dialled."""
        return [node_id for node_id, link in self.routing_table.items() if link.outgoing]

    @property
    def incoming(self) -> list[bytes]:
        """The ids of the neighbours that dialled this node."""
        return [node_id for node_id, link in self.routing_table.items() if not link.outgoing]

    @property
    def queue(self) -> list[Message]:
        """The messages that wait for :meth:`recv`, the next one first."""
        return [with_replies(self._thread, message) for message in self._thread.call(self._queue.peek)]

    @property
    def dropped(self) -> dict[str, int]:
        """How many items this node dropped or ignored so far, by kind (docs/service.rst)."""
        return dict(self._node.dropped)

    @property
    def status(self) -> str | list[str]:
        """The tracebacks of the newest ``failures_limit`` failures; ``"Nominal"`` if there was none.

        Failures of the application's handlers and listeners are among them.
        """
        return list(self._failures) or "Nominal"

    # ── links ───────────────────────────────────────────────────────────────────────

    def connect(self, addr: str, port: int) -> bool | Deferred[bool | None] | None:
        """Link with the node at *addr* ('' for this host) and *port*, and keep the link up.

        The call blocks until that node is in the routing table and the listeners of ``connect`` have run.

        :return: None; False if the address leads to this node itself, or to a node that is linked already.
            In the reactor's thread, a Deferred of that.
        :raises ConnectFailed: an OSError: nothing listens there.
        :raises SubnetMismatch: the node there is of another subnet; EncryptionMismatch, HandshakeTimeout or
            another RemoteError: that node refuses the link for another reason.
        :raises LocalError: *port* is no port; NotRunning: the socket is closed.
        """
        linked: bool | Deferred[bool | None] | None = self._thread.call(self._node.link_with, addr, port)
        return linked

    def joined(self, timeout: float | None = None) -> bool:
        """Wait until a first neighbour has sent its roster, its list of members.

        :param timeout: seconds; None to wait without a limit.
        :return: whether a neighbour has sent it in time.
        :raises RuntimeError: in the reactor's thread.
        :raises LocalError: *timeout* is no number, or below 0.
        :raises NotRunning: the socket is closed, or is closed meanwhile.
        """
        has: bool = self._thread.wait(self._node.if_open, self._node.joins, seconds_of(timeout))
        return has

    def stop_dialling(self, addr: str, port: int) -> bool:
        """Stop keeping up the link to *addr* and *port* for which :meth:`connect` or ``peers`` asked.

        A link that is up stays until it is lost or :meth:`disconnect` closes it.

        :return: whether the node kept up a link to that address, or dialled it.
        :raises LocalError: *port* is no port; NotRunning: the socket is closed.
        """
        has: bool = self._thread.call(self._node.if_open, self._node.stop_dialling, addr, port)
        return has

    def forget(self, member: bytes) -> None:
        """Have all nodes forget a member that is down or has left, until it speaks again.

        :param member: the member's id, as in :attr:`members`.
        :raises LocalError: there is no such member, it is up, or this node is a guest or may only listen;
            NotRunning: the socket is closed.
        """
        self._thread.call(self._node.if_open, self._node.forget, member)

    def disconnect(self, link: Link) -> None:
        """Close *link*, and do not dial its node for ``redial_forbidden`` seconds.

        :raises LocalError: *link* is no link of :attr:`routing_table`.
        """
        if not isinstance(link, Link):
            raise LocalError(f"only a link of routing_table can be closed, not {link!r}")
        if link.inner is not None:
            self._thread.call(self._node.disconnect, link.inner)

    # ── sending and receiving ───────────────────────────────────────────────────────

    @overload
    def send(
        self, *packets: Packet, flag: int = ..., type: int = ..., receipt: Literal[False] = False
    ) -> None: ...

    @overload
    def send(self, *packets: Packet, type: int = ..., receipt: Literal[True]) -> Receipt: ...

    def send(
        self,
        *packets: Packet,
        flag: int = flags.broadcast,
        type: int = flags.broadcast,
        receipt: bool = False,
    ) -> Receipt | None:
        """Send a message to everyone; each argument is a packet.

        If neighbours are slow, the call waits for room, up to ``handover_timeout``.

        :param packets: ``str bytes int float bool None list dict``.
        :param flag: ``flags.whisper`` to reach direct peers only.
        :param type: the value of ``packets[0]``: 0, 2, or the application's own from 0x30 on.
        :param receipt: whether to return a live :class:`~twisted_mesh.mesh.Receipt`, which
            shows which members have the message; for broadcasts only.
        :raises TypeError: and ValueError: packets, a flag or a type cannot be sent.
        :raises MessageTooLarge: the packed message has over 1 MiB.
        :raises Congested: no neighbour takes earlier messages; this one was not sent.
        :raises NotRunning: the socket is closed.
        """
        options = {"flag": flag, "type": type, "receipt": receipt}
        send: Callable[[], ServiceReceipt | None] = partial(self._node.send, *packets, **options)
        call = self._node.if_open if self._thread.is_here else self._node.in_turn
        sent: ServiceReceipt | None = self._thread.call(call, send)
        return None if sent is None else Receipt(self._thread, sent)

    def send_many(self, packets: Iterable[Packet], type: int = flags.broadcast) -> None:
        """Send a message to everyone with each of *packets*: all of these messages, or none.

        If neighbours are slow, the call waits for room for all of them, up to ``handover_timeout``.

        :param packets: a list or another iterable; *type*: of all the messages, as for :meth:`send`.
        :raises TypeError: and ValueError: a packet or the type cannot be sent.
        :raises MessageTooLarge: a packed message has over 1 MiB, or all have over ``unsent_bytes``.
        :raises Congested: there was no room for all of them in time.  Other errors are those of
            :meth:`send`.
        """
        send = partial(self._node.send_many, each_of(packets), type)
        call = self._node.if_open if self._thread.is_here else self._node.in_turn
        self._thread.call(call, send)

    def send_to(self, member: bytes, *packets: Packet, type: int = flags.whisper) -> Deferred[None] | None:
        """Send a message to one member alone, wherever in the mesh it is.

        The call blocks until that member has acknowledged the message.

        :param member: the member's id, as in :attr:`members`.
        :param packets: and *type*: as for :meth:`send`.
        :return: None; in the reactor's thread, a Deferred of that.
        :raises Unreachable: the member has not acknowledged the message within ``direct_timeout``; the text
            says why.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises NotRunning: the socket is closed.
        """
        node = self._node
        sent: Deferred[None] | None = self._thread.call(
            node.if_open, node.send_to, member, *packets, type=type
        )
        return sent

    def request(
        self, member: bytes, *packets: Packet, timeout: float | None = 10.0, type: int = flags.whisper
    ) -> Message | Deferred[Message]:
        """Send a message to one member alone, and wait for its answer.

        :param member: and *packets* and *type*: as for :meth:`send_to`.
        :param timeout: seconds until the answer must have come; None to wait without a limit.
        :return: the member's first ``message.reply()`` to this message, which neither :meth:`recv` nor a
            handler gets; in the reactor's thread, a Deferred of that.
        :raises Unreachable: the member has not acknowledged the message in time; NoReply: it has, and has
            not answered in time.
        :raises Congested: too many requests wait for their answers.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the socket is closed.
        """

        def ask() -> Deferred[Message]:
            asked = self._node.request(member, *packets, timeout=timeout, type=type)
            return asked.addCallback(partial(with_replies, self._thread))

        answer: Message | Deferred[Message] = self._thread.call(self._node.if_open, ask)
        return answer

    def ping(self, member: bytes, timeout: float | None = 5.0) -> float | Deferred[float]:
        """Find out whether a member's node answers; the application there is not told.

        :param member: the member's id; *timeout*: seconds; None for ``direct_timeout``.
        :return: the round trip in seconds; in the reactor's thread, a Deferred of that.
        :raises Unreachable: the member has not answered in time.
        :raises TypeError: and ValueError: *member* is no id of another node.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the socket is closed.
        """
        seconds: float | Deferred[float] = self._thread.call(
            self._node.if_open, self._node.ping, member, timeout
        )
        return seconds

    def trace(self, message_id: MessageId, timeout: float = 5.0) -> Trace:
        """Ask all members by which way a message came to them, and wait for their answers.

        :param message_id: the ``id`` of a message to everybody, or of a receipt.
        :param timeout: seconds until the answers must have come.
        :return: what each node says, this one first.
        :raises Unreachable: its author is not known here; Congested: too many traces wait for answers.
        :raises TypeError: and ValueError: *message_id* is no id of a message to everybody.
        :raises LocalError: *timeout* is no number, or below 0; or this node may only listen; NotRunning:
            the socket is closed.  RuntimeError: the caller is in the reactor's thread.
        """
        trace: Trace = self._thread.wait(self._node.if_open, self._node.trace, message_id, timeout)
        return trace

    def graph(self, timeout: float = 5.0) -> list[Neighbours]:
        """Ask all members with which nodes they are linked, and wait for their answers.

        :param timeout: and the errors are as for :meth:`trace`.
        :return: what each node says, this one first.
        """
        graph: list[Neighbours] = self._thread.wait(self._node.if_open, self._node.graph, timeout)
        return graph

    def lag(self, timeout: float = 5.0) -> list[Lag]:
        """Ask all members how many messages they lack, and how many their applications have not taken.

        :param timeout: and the errors are as for :meth:`trace`.
        :return: what each node says, this one first.
        """
        lag: list[Lag] = self._thread.wait(self._node.if_open, self._node.lag, timeout)
        return lag

    def query(self, *packets: Packet, timeout: float | None = 5.0, type: int = flags.broadcast) -> Query:
        """Send a message to everyone, and await the answers: ``for answer in socket.query("?")``.

        :param packets: and *type*: as for :meth:`send`.
        :param timeout: seconds until the iteration ends; None to wait until all have answered.
        :return: the answers: the first ``message.reply()`` of each node to this message.  The iteration
            ends sooner when all members that are up now have answered.
        :raises Congested: too many requests and queries wait for answers.  Other errors are those of
            :meth:`send`, and LocalError: *timeout* is no number, or below 0.
        """
        ask: Callable[[], ServiceQuery] = partial(self._node.query, *packets, timeout=timeout, type=type)
        return Query(self._thread, self._thread.call(self._node.if_open, ask))

    def messages(self, name: str, start: str | float = "new") -> NamedMessages:
        """The messages of a consumer that keeps its place: ``for message in socket.messages("billing")``.

        The iteration blocks until a message comes, and ends when the socket is closed.  It goes on with the
        messages that the consumer had not taken, also in an earlier process if there is a *history*.  A
        message is taken when the next one is asked for.

        :param name: of the consumer.
        :param start: where a consumer begins whose name is new: with ``"new"`` messages, with ``"all"``
            that are held, or with those that came in the last so many seconds.
        :raises ConsumerInUse: an iterator of that name is open.
        :raises LocalError: *name* or *start* cannot be used, or there are too many names.
        :raises NotRunning: the socket is closed.
        """
        messages = NamedMessages(self._thread, name)
        return self._thread.call(self._node.if_open, messages.open, self._node, start)  # type: ignore[no-any-return]

    @property
    def consumers(self) -> dict[str, Consumer]:
        """The consumers with names, by name, as they are now."""
        return self._node.consumers

    def forget_consumer(self, name: str) -> None:
        """Forget a named consumer and its place: no message and no receipt waits for it any more.

        :raises ConsumerInUse: an iterator of that name is open.
        :raises LocalError: there is no such consumer; NotRunning: the socket is closed.
        """
        self._thread.call(self._node.if_open, self._node.forget_consumer, name)

    @overload
    def recv(self, quantity: Literal[1] = 1, timeout: float | None = 0) -> Message | None: ...  # type: ignore[overload-overlap]

    @overload
    def recv(self, quantity: int, timeout: float | None = 0) -> list[Message]: ...

    def recv(self, quantity: int = 1, timeout: float | None = 0) -> Message | list[Message] | None:
        """The next message that no handler took, or None if there is none.

        :param quantity: if it is not 1, a list of up to that many messages is returned, which can be empty.
        :param timeout: seconds to wait for the first message; None to wait until the socket
            closes.
        :raises RuntimeError: the call would have to wait in the reactor's thread.
        :raises LocalError: *quantity* or *timeout* is no number, or *timeout* is below 0.
        """
        if not isinstance(quantity, int):
            raise LocalError(f"quantity must be an int, not {quantity!r}")
        until = time.monotonic() + seconds_of(timeout)
        taken: list[tuple[Message, int]] = []
        try:
            self._thread.call(self._take, quantity, taken)
            while not taken and quantity > 0:
                left = until - time.monotonic()
                if left <= 0 or not self._thread.wait(self._arrival, left):
                    break
                self._thread.call(self._take, quantity, taken)
            messages = [with_replies(self._thread, message) for message, _ in taken]
            if quantity != 1:
                return messages
            return messages[0] if messages else None
        except BaseException:  # also an interrupt, even while messages are being taken
            self._thread.later(self._put_back, taken)
            raise

    def _take(self, quantity: int, taken: list[tuple[Message, int]]) -> None:
        while len(taken) < quantity and (message := self._queue.take_sized()) is not None:
            taken.append(message)

    def _put_back(self, taken: list[tuple[Message, int]]) -> None:
        if taken:
            self._queue.put_back(taken)
            self._wake()  # other threads may wait for messages

    def _arrival(self, seconds: float) -> Deferred[bool]:
        """Fires with True once a message may have come, or with False after *seconds*."""
        if len(self._queue) or self._node.closed:
            return succeed(bool(len(self._queue)))
        return Deferred.fromCoroutine(wait_at_most(self._arrivals.wait(), seconds, self._thread.reactor))

    def _arrived(self) -> None:
        if self.listeners("message"):
            self.emit("message", self)
        self._wake()

    def _wake(self) -> None:
        self._arrivals.happened(True)

    def register_handler(self, handler: Callable[[Message, Link], object]) -> None:
        """Let ``handler(message, link)`` see each message before later handlers and the listeners do.

        If its result is true, no later handler and no listener is called.  Handlers run in the reactor's
        thread: they may send and reply, and must not block.

        :raises ValueError: *handler* does not take exactly two arguments.
        """

        @wraps(handler)
        def handle(message: Message, link: MeshProtocol | None) -> object:
            return handler(with_replies(self._thread, message), Link(self._thread, link))

        self._node.register_handler(handle)

    # ── failures and the end ────────────────────────────────────────────────────────

    def _failed(self, listener: Callable[..., Any], failure: Failure, told_failure: bool) -> None:
        self._failures.append(failure.getTraceback())
        super()._failed(listener, failure, told_failure)

    def _node_failed(self, failure: Failure) -> None:
        self._failures.append(failure.getTraceback())
        self.emit("failure", failure)

    def close(self) -> None:
        """Hand over unsent messages, say goodbye, and free the port; each step has a time limit.

        Messages that have come can still be received.  A second call does nothing.

        :raises RuntimeError: in the reactor's thread.
        """
        try:
            self._thread.wait(self._thread.stop, self._node)
        except NotRunning:
            if not self._node.closed:  # else the end of the reactor has closed it
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._node.closed else f"links: {len(self._node.routing_table)}"
        return f"<MeshSocket {self.id.decode()} at {self.out_addr}, {state}>"

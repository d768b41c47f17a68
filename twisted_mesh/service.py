"""MeshService: a node of the mesh as a Twisted service.

Contract: ``__init__`` checks its arguments and opens nothing, because twistd forks afterwards.  A start
opens the ports, or raises an error, and begins a new run; a stop ends the run within time limits.  The
application holds the service, whether it runs or not; while it runs, ``RunningNode`` does the work.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from math import inf
from operator import itemgetter
from secrets import randbelow
from types import MappingProxyType
from typing import Any, Literal, overload

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger, globalLogPublisher

from twisted_mesh import flags
from twisted_mesh.addressing.addresses import (
    PeerAddress,
    check_address,
    check_port,
    parse_peer,
    this_host,
    told_address,
)
from twisted_mesh.addressing.endpoints import ClientEndpoints, Dial
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery.delivery import Delivery, Handler, QueueT
from twisted_mesh.delivery.in_flight import InFlight
from twisted_mesh.delivery.listeners import Listeners
from twisted_mesh.delivery.named import NamedMessages, NamedQueue
from twisted_mesh.delivery.named_consumers import check_consumer
from twisted_mesh.delivery.query import Query
from twisted_mesh.delivery.queue import Bounds, Consumers, MessageQueue
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import KeyInUse, LocalError, NotRunning, Reason, RemoteError, WrongValue
from twisted_mesh.eventloop.clock import monotonic
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, seconds_of, wait_for
from twisted_mesh.eventloop.descriptors import allow_descriptors
from twisted_mesh.eventloop.forks import close_in_forks, closed
from twisted_mesh.eventloop.log_quota import QuotaFilter
from twisted_mesh.eventloop.reactor_check import check_reactor_runs
from twisted_mesh.identity import Identity, verify
from twisted_mesh.links.factory import MeshFactory
from twisted_mesh.links.listening import Listening, parse_listen
from twisted_mesh.links.log import LinkLog
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.tls import Tls
from twisted_mesh.message import (
    Consumer,
    Member,
    Message,
    MessageId,
    Packet,
    check_broadcast_id,
    each_of,
)
from twisted_mesh.network import SSL, Protocol
from twisted_mesh.runtime.options import names_options
from twisted_mesh.runtime.profile import checked_debug_level, checked_profile
from twisted_mesh.runtime.reporting import Where
from twisted_mesh.runtime.running_node import RunningNode
from twisted_mesh.runtime.settings import Host, Settings
from twisted_mesh.status import HeldStatus, Status
from twisted_mesh.trace import Lag, Neighbours, Trace
from twisted_mesh.trust.policy import Trust

_log = Logger()
_NONE: Mapping[Any, Any] = MappingProxyType({})


class MeshService(Service, Listeners):
    """A node of the mesh.

    :param reactor: for endpoints and time; it need not run yet.
    :param listen: where to listen: endpoint strings or IStreamServerEndpoint; () to dial only.
    :param peers: nodes to keep links with, dialled for ever with back-off: ``"host:port"``,
        ``"ID@host:port"``, client endpoint strings or IStreamClientEndpoint.
    :param subnet: only nodes of equal subnet and encryption link with each other.
    :param encryption: ``"SSL"`` (TLS 1.3) or ``"Plaintext"``.
    :param identity: the node's key; None makes a key for this process.
    :param out_addr: (host, port) that others can dial, with '' as host for the LAN address; None for the
        addresses on which the node listens.  The node looks up a name itself, and tells its IP address.
    :param trust: who may join, such as ``Trust.secret("mesh.secret")``; None for everybody.
    :param history: file for sent and received messages, with which the node goes on after a restart; None
        keeps them in memory only.  A relative path starts in the present directory.
    :param replay: which messages from before the node joined are delivered, too: with a number of seconds,
        those that the first neighbour received within that time; with ``"all"``, all that it holds.
    :param overlay: whether the node looks for more neighbours than those in *peers*.
    :param role: ``"member"``; or ``"guest"``, which is on no roster and is otherwise like a member.
    :param label: a name for people, at most 64 characters; several nodes may have the same.
    :param tags: other properties that the members see: at most 16, names of up to 32 characters with
        values of up to 128; label and tags together have at most 512 bytes of UTF-8.
    :param dial: makes the client endpoint for a host and port, for proxies and tests.
    :param debug_level: 1 logs links, 2 protocol decisions, 4 handlers entered, 5 messages in and out.
    :param control: whether ``mesh`` and other programs of this user can look at the node and send by it,
        while it runs (docs/http.rst); or the path of the UNIX socket for that.
    :param config: every limit and interval.
    :raises LocalError: an argument cannot work; nothing was opened.
    """

    @names_options("MeshService")
    def __init__(
        self,
        reactor: Any,
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
        super().__init__()
        self._reactor = reactor
        self._clock = monotonic(reactor)
        self._settings = Settings(
            Protocol(subnet, encryption), identity, history,
            checked_profile(role, label, tags, overlay, replay), config, self._host(), trust,
        )  # fmt: skip
        self._out_addr = None if out_addr is None else check_address(out_addr)
        self._endpoints = parse_listen(reactor, listen)
        if isinstance(peers, str):
            raise LocalError(f"peers is a sequence, such as ('host:4444',), not {peers!r}")
        self._peers = [parse_peer(peer) for peer in peers]
        if not (dial is None or callable(dial)):
            raise LocalError(f"dial makes a client endpoint of a host and a port: it is not {dial!r}")
        self._debug = checked_debug_level(debug_level)
        self._control_at = _checked_control(control)
        self._control: IService | None = None  # while it runs, if it has one
        policy, identity = self._settings.policy, self._settings.identity
        self._tls = Tls(self._clock, policy, identity) if self.protocol.encrypted else None
        encrypt = None if self._tls is None else self._tls.client
        self._client_endpoints = ClientEndpoints(reactor, self.config, dial, encrypt)
        wall_clock = self._settings.wall_clock
        self._delivery = Delivery(self, debug_level, self._clock, self.config, wall_clock)
        self._port_log = QuotaFilter(globalLogPublisher, self._clock.seconds, self.config)
        self._listening = self._new_listening()
        self._dropped = Counter[str]()  # counts of earlier runs
        self._run: RunningNode | None = None
        self._send_plain: Callable[[tuple[object, ...]], bool] = _not_plain  # while it runs, the node's own
        self._told_address: tuple[str, int] | None = None  # where others are told to dial this node
        self._unreachable = False  # whether this node listens, and there is no address to tell others
        self._stopping = False
        self._ended = WaitingDeferreds[None]()  # fire when the service has stopped

    # ── the node as values ──────────────────────────────────────────────────────────

    @property
    def id(self) -> bytes:
        """This node's id, base58."""
        return self._settings.identity.id

    @property
    def protocol(self) -> Protocol:
        """The network that the node belongs to."""
        return self._settings.network

    @property
    def trust(self) -> Trust:
        """Who may join, as the service was told when it was made."""
        return self._settings.trust

    @property
    def config(self) -> MeshConfig:
        """The node's limits and intervals."""
        return self._settings.config

    @property
    def routing_table(self) -> Mapping[bytes, MeshProtocol]:
        """The neighbours by id, read-only and live."""
        run = self._run  # read once: another thread may ask while the service stops
        return _NONE if run is None else run.connections.table

    @property
    def members(self) -> Mapping[bytes, Member]:
        """The other members by id, read-only and live, as long as the service runs."""
        run = self._run
        return _NONE if run is None else run.members.table

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each port that is bound."""
        return self._listening.addresses

    @property
    def out_addr(self) -> tuple[str, int] | None:
        """(host, port) that others are told to dial; None if there is no address that they can reach.

        If the application gave a name, the result has the name, and others are told its IP address.
        """
        return told_address(self.addresses, self._out_addr)

    @property
    def factory(self) -> IProtocolFactory:
        """A factory of links, with encryption, for an application that listens by other means."""
        factory = MeshFactory(lambda: None if self._run is None else self._run.connections)
        return factory if self._tls is None else self._tls.factory(factory)

    def status(self) -> Status:
        """The node now, as one tree of values; it costs nothing while nobody asks.

        :raises NotRunning: the service does not run.
        """
        where = Where(self.addresses, self.out_addr)
        return self._running(stopping=True).reporting.status(where, self.dropped, self.footprint())

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table, for tests and metrics; empty while stopped."""
        return {} if self._run is None else {**self._run.footprint(), **self._delivery.footprint()}

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many items were dropped or ignored so far, by kind (docs/service.rst); read-only."""
        counts, run = self._dropped.copy(), self._run
        counts.update(self._delivery.counts)
        if run is not None:
            counts.update(run.dropped)
        return MappingProxyType(counts)

    def __repr__(self) -> str:
        state = "stopped" if self._run is None else f"neighbours: {len(self.routing_table)}"
        return f"<MeshService {self.id.decode()}, {state}>"

    # ── starting and stopping ───────────────────────────────────────────────────────

    def privilegedStartService(self) -> None:
        """Listen and begin a run.

        :raises twisted.internet.error.CannotListenError: or another error of an endpoint.
        :raises IdentityError: the epoch of the run cannot be written beside the key.
        :raises StoreError: the history file cannot be used.
        :raises RuntimeError: an asyncio loop runs here, and the reactor does not.
        """
        super().privilegedStartService()
        if self._run is None:
            self._begin()

    def startService(self) -> None:
        """Begin a run, if none has begun, and dial the peers.

        :raises NotRunning: the service is still stopping: wait for the Deferred of stopService().
        """
        if self._run is None:
            self._begin()
        run = self._running()
        super().startService()
        run.dial_out(self._peers)
        if self._control_at is not None and self._control is None:
            # The room `admin` stands above this one.  A node without a control socket loads no HTTP server.
            from twisted_mesh.admin.control import Control

            beside = self._settings.identity.path
            self._control = Control(self._reactor, self, self._control_at or None, beside)
            self._control.startService()

    def stopService(self, retire: bool = False) -> Deferred[None]:
        """Hand over unsent messages, say goodbye and close everything, within time limits.

        The service stops even if the Deferred is cancelled.  The log says how many messages no neighbour's
        transport accepted, and how many may be lost since neighbours did not answer the goodbye.

        :param retire: whether the node leaves for good: a minute later, no other node waits for it.  It may
            come back all the same.
        """
        return wait_for(self._stop(retire))

    async def _give_all(self) -> None:
        """Wait, ``handover_timeout`` at most, until each neighbour that stays was given all messages."""
        if (run := self._run) is not None and not self._stopping:
            await run.give_all()

    def ready(self) -> Deferred[None]:
        """Fires when the node listens at every endpoint; fails with the reason if it cannot."""
        return self._listening.ready()

    def joined(self) -> Deferred[None]:
        """Fires when a neighbour has sent its roster, its list of members; at once if that has happened.

        The Deferred fails with NotRunning if the service stops first.

        :raises NotRunning: the service does not run.
        """
        return self._running().joined()

    def reload_trust(self) -> None:
        """Read the files of ``trust`` again; ``twistd mesh`` does so at SIGHUP.

        Links with nodes that do not belong to the mesh any more are closed, and their messages are neither
        kept nor passed on.

        :raises TrustError: a file cannot be used; what was read before stays in force.
        :raises NotRunning: the service does not run.
        """
        self._running().trust.reload()

    @property
    def authority_policy(self) -> bytes:
        """The newest policy of the mesh's authority that this node knows, as signed; empty for none."""
        return self._settings.policy.newest

    def runs_of(self, member: bytes) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The key of a node, and how far its runs have come here: what ``mesh authority remove`` needs.

        :param member: its id; it need not be on the roster any more.
        :return: the key; of each run, the newest first, its epoch, the number of the last message here, and
            the hash of the header there, which may be empty.
        :raises Unreachable: nothing of it is known here; NotRunning: the service does not run.
        """
        return self._running().runs_of(member)

    def take_policy(self, packed: bytes) -> None:
        """Take in a policy that the mesh's authority has signed, if it is newer, and hand it on to all.

        :raises RemoteError: it is none; NotRunning: the service does not run.
        """
        self._running().take_policy(packed)

    def key_in_use(self) -> Deferred[KeyInUse]:
        """Fires with the error when another node is proven to use this node's key now, in a newer run.

        Some seconds earlier, the event ``failure`` reports the newer run, which may be over by then.  The
        service goes on without publishing, and begins a new run when the other node has stopped.  The
        Deferred fails with NotRunning if the service stops first.

        :raises NotRunning: the service does not run.
        """
        return self._running().key_in_use()

    def _begin(self) -> None:
        check_reactor_runs(self._reactor)
        with ExitStack() as undo:
            undo.callback(self._stop_listening)
            self._listening.start(self.factory)
            log = LinkLog(self._clock, self.config, self._debug, self.protocol, self._settings.policy.mode)
            run = RunningNode(
                self._reactor, self._clock, self._settings, self._client_endpoints, self._delivery, log,
                self._where,
            )  # fmt: skip
            undo.pop_all()
        self._stopping = False
        self._run, self._send_plain = run, run.send_plain
        close_in_forks(self._close_in_fork)
        if self._debug >= 1:
            _log.info("node {id} listens on {where}", id=self.id.decode(), where=str(self._listening))

    def _where(self) -> tuple[str, int] | None:
        """Where others can dial this node now; while it stops, where they could dial it last."""
        if self._run is None or not self._stopping:
            address = self._told_address = self.out_addr
            unreachable = address is None and bool(self.addresses)
            if unreachable and not self._unreachable:
                _log.warn(
                    "no other node is told where to dial this one: it listens for IPv4 alone, and others "
                    "reach this host by IPv6 alone; listen with tcp6:PORT, or give out_addr"
                )
            self._unreachable = unreachable
        return self._told_address

    def _host(self) -> Host:
        """What the node takes from its host; MemoryMesh has a host of its own."""
        return Host(time.time, verify, randbelow, allow_descriptors)

    async def _stop(self, retire: bool) -> None:
        super().stopService()
        run = self._run
        if run is None:
            return
        if self._stopping:
            await self._ended.wait()
            return
        self._stopping, self._send_plain = True, _not_plain
        async with AsyncExitStack() as end:  # all of these run, the last first, even if some fail
            end.callback(self._ended.happened, None)
            end.callback(self._delivery.close)
            end.callback(self._over)
            ports_closed = maybeDeferred(self._listening.stop)
            end.push_async_callback(lambda: ports_closed)
            end.push_async_callback(run.stop, retire)
            if self._control is not None:
                control, self._control = self._control, None
                end.push_async_callback(control.stopService)

    def _close_in_fork(self) -> None:
        """Give up the node, which belongs to the parent of this forked process."""
        run, self._run = self._run, None
        self._send_plain = _not_plain
        self._listening.close_in_fork()
        if run is not None:
            run.close_in_fork()

    def _over(self) -> None:
        closed(self._close_in_fork)
        if self._run is not None:
            self._dropped.update(self._run.dropped)
        self._run = None
        self._listening = self._new_listening()

    def _new_listening(self) -> Listening:
        return Listening(self._endpoints, self._port_log)

    def _stop_listening(self) -> None:
        """Close the ports; the next start opens them again."""
        listening, self._listening = self._listening, self._new_listening()
        listening.give_up()

    # ── links ───────────────────────────────────────────────────────────────────────

    def connect(self, host: str, port: int) -> Deferred[MeshProtocol]:
        """Link with the node at *host* ('' for this host) and *port*, and keep the link up.

        :return: fires with the link once it is in the routing table.  If the first attempt fails, no other
            is made, and the Deferred fails with ConnectFailed, SubnetMismatch, EncryptionMismatch,
            SelfConnection, HandshakeTimeout or another RemoteError; with NotRunning if the service stops.
        :raises LocalError: *port* is no port; NotRunning: the service does not run.
        """
        address = PeerAddress(this_host(host), check_port(port))
        return self._running().connect(address)

    def stop_dialling(self, host: str, port: int) -> bool:
        """Stop keeping up the link to *host* and *port* for which :meth:`connect` or *peers* asked.

        A link that is up stays until it is lost or :meth:`disconnect` closes it.  After another start of
        the service, the node dials all *peers* again.

        :return: whether the node kept up a link to that address, or dialled it.
        :raises LocalError: *port* is no port; NotRunning: the service does not run.
        """
        return self._running().peers.forget(this_host(host), check_port(port))

    def forget(self, member: bytes) -> None:
        """Have all nodes forget a member that is down or has left, until it speaks again.

        It leaves :attr:`members` at once, and those of the other nodes as soon as they hear of it.  The
        receipts of this node wait for it no more; in those of other nodes it has missed the messages.

        :param member: the member's id, as in :attr:`members`.
        :raises WrongValue: there is no such member, or it is up or suspected.
        :raises LocalError: this node is a guest, or may only listen; nobody would hear it.
        :raises TypeError: *member* is no id; NotRunning: the service does not run.
        """
        run = self._running()
        self._check_member(member)
        run.forget(member)

    def disconnect(self, link: MeshProtocol) -> None:
        """Close *link* and do not dial its node for ``redial_forbidden`` seconds."""
        if link.id is not None:
            self.leave_alone(link.id)
        link.close(RemoteError("the application disconnected", Reason.DISCONNECT))

    def leave_alone(self, node_id: bytes) -> None:
        """Do not dial that node for ``redial_forbidden`` seconds, for example if it is about to stop.

        :raises NotRunning: the service does not run.
        """
        self._running().connections.cooldown.add(node_id)

    # ── sending ─────────────────────────────────────────────────────────────────────

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
        """Send a message to everyone.

        :param packets: ``str bytes int float bool None list dict``.
        :param flag: ``flags.whisper`` to reach direct peers only.
        :param type: the value of ``packets[0]``: 0, 2, or the application's own from 0x30 on.
        :param receipt: whether to return a live :class:`~twisted_mesh.delivery.receipts.Receipt`, which
            shows which members have the message; for broadcasts only.
        :raises TypeError: and ValueError: packets, a flag or a type cannot be sent.
        :raises MessageTooLarge: the packed message has over 1 MiB.
        :raises Congested: ``unsent_bytes`` of own messages wait, or the queues of all neighbours are full;
            this one was not sent.
        :raises StoreFull: the history cannot be written, for example because the disk is full; the message
            was not sent.
        :raises KeyInUse: another node uses this node's key, in a newer run, and has not stopped yet; or it
            has signed in this node's run, and no new run can begin yet.
        :raises TrustError: this node's grant allows it to listen only.
        :raises NotRunning: the service does not run.
        """
        # Nearly every message goes this way, so flag and type are tested by `is`, which is fastest.
        if (
            flag is flags.broadcast
            and type is flags.broadcast
            and not receipt
            and self._send_plain(packets)
        ):
            return None
        run = self._running()
        if flag not in (flags.broadcast, flags.whisper):
            raise ValueError(f"flag must be flags.broadcast or flags.whisper, not {flag!r}")
        if type is not flags.broadcast:
            flags.check_user_type(type)
        if receipt and flag == flags.whisper:
            raise ValueError("a whisper has no receipt: send_to() says when one member has a message")
        return run.send(type, packets, whisper=flag == flags.whisper, receipt=receipt)

    def send_many(self, packets: Iterable[Packet], type: int = flags.broadcast) -> None:
        """Send a message to everyone with each of *packets*: all of these messages, or none.

        That takes half the time of a call of :meth:`send` for each.

        :param packets: a list or another iterable; *type*: of all the messages, as for :meth:`send`.
        :raises TypeError: and ValueError: a packet or the type cannot be sent.
        :raises MessageTooLarge: a packed message has over 1 MiB, or all have over ``unsent_bytes``.
        :raises Congested: there is no room for all of them.  Other errors are those of :meth:`send`.
        """
        run = self._running()
        flags.check_user_type(type)
        run.send_many(type, each_of(packets))

    def send_to(self, member: bytes, *packets: Packet, type: int = flags.whisper) -> Deferred[None]:
        """Send a message to one member alone, wherever in the mesh it is.

        :param member: the member's id, as in :attr:`members`.
        :param packets: and *type*: as for :meth:`send`.
        :return: fires when the member has acknowledged the message, which its present run gets once.  Fails
            with Unreachable, and the reason, after ``direct_timeout`` seconds.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises TrustError: this node's grant allows it to listen only.
        :raises NotRunning: the service does not run.
        """
        run = self._running()
        self._check_member(member)
        flags.check_user_type(type)
        return run.send_to(member, type, packets)

    def request(
        self, member: bytes, *packets: Packet, timeout: float | None = 10.0, type: int = flags.whisper
    ) -> Deferred[Message]:
        """Send a message to one member alone, and await its answer.

        :param member: and *packets* and *type*: as for :meth:`send_to`.
        :param timeout: seconds until the answer must have come; None to wait without a limit.
        :return: fires with the member's first ``message.reply()`` to this message, which no handler,
            listener or :meth:`messages` gets.  Fails with Unreachable if the member does not acknowledge
            the message in time; with NoReply if it does, and does not answer in time.  If the Deferred is
            cancelled, nothing is awaited any more.
        :raises TypeError: and ValueError: packets or a type cannot be sent, or *member* is no id.
        :raises Congested: ``requests_limit`` requests and queries wait for answers.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the service does not run.
        """
        run = self._running()
        self._check_member(member)
        flags.check_user_type(type)
        return run.request(member, type, packets, seconds_of(timeout))

    def query(self, *packets: Packet, timeout: float | None = 5.0, type: int = flags.broadcast) -> Query:
        """Send a message to everyone, and await the answers: ``async for answer in service.query("?")``.

        :param packets: and *type*: as for :meth:`send`.
        :param timeout: seconds until the iteration ends; None to wait until all have answered.
        :return: the answers: the first ``message.reply()`` of each node to this message.  The iteration
            ends sooner when all members that are up now have answered.
        :raises Congested: ``requests_limit`` requests and queries wait for answers.  Other errors are those
            of :meth:`send`, and LocalError: *timeout* is no number, or below 0.
        """
        run = self._running()
        flags.check_user_type(type)
        return run.query(type, packets, seconds_of(timeout))

    def ping(self, member: bytes, timeout: float | None = 5.0) -> Deferred[float]:
        """Find out whether a member's node answers; the application there is not told.

        :param member: the member's id, as in :attr:`members`.
        :param timeout: seconds until the answer must have come; None for ``direct_timeout``.
        :return: fires with the round trip in seconds, wherever in the mesh the member is.  Fails with
            Unreachable if it does not answer in time; so does one whose application has no room for direct
            messages.
        :raises TypeError: and ValueError: *member* is no id of another node; LocalError: *timeout* is no
            number, or below 0; NotRunning: the service does not run.
        """
        return self._ping(member, timeout).addCallback(itemgetter(0))

    def _ping(self, member: bytes, timeout: float | None) -> Deferred[tuple[float, int]]:
        """As :meth:`ping`, also with the number of relays over which the answer came, as they say."""
        run = self._running()
        self._check_member(member)
        return run.ping(member, seconds_of(timeout))

    def trace(self, message_id: MessageId, timeout: float = 5.0) -> Deferred[Trace]:
        """Ask all members by which way a message came to them.

        :param message_id: the ``id`` of a message, or of a receipt: (origin, epoch, sequence).  In place
            of the origin it may have the author's id.
        :param timeout: seconds until the answers must have come.
        :return: fires with the answers when all that are up have answered, or the time is over.  Fails with
            Unreachable if the author's id is not known here, and with Congested if too many traces wait for
            answers.
        :raises TypeError: and ValueError: *message_id* is no id of a message to everybody.
        :raises TrustError: this node's grant allows it to listen only, so nobody answers it.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the service does not run.
        """
        run = self._running()
        check_broadcast_id(message_id)
        return run.trace(message_id, seconds_of(timeout))

    def graph(self, timeout: float = 5.0) -> Deferred[list[Neighbours]]:
        """Ask all members with which nodes they are linked.

        :param timeout: seconds until the answers must have come.
        :return: fires with the answer of each node, this one first, as :meth:`trace` does.  Fails with
            Congested if too many traces wait for answers.
        :raises TrustError: this node's grant allows it to listen only, so nobody answers it.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the service does not run.
        """
        return self._running().graph(seconds_of(timeout))

    def lag(self, timeout: float = 5.0) -> Deferred[list[Lag]]:
        """Ask all members how many messages they lack, and how many their applications have not taken.

        :param timeout: and the result and the errors are as for :meth:`graph`.
        """
        return self._running().lag(seconds_of(timeout))

    def _check_member(self, member: object) -> None:
        if not isinstance(member, bytes):
            raise TypeError(f"a member is named by its id, bytes as in members, not {member!r}")
        if member == self.id:
            raise ValueError("that is the id of this node itself")

    def drained(self) -> Deferred[None]:
        """Fires when messages can be sent again after Congested, StoreFull or KeyInUse."""
        return self._running().drained()

    def handed_over(self, timeout: float | None) -> Deferred[None]:
        """Fires when a neighbour has read every message sent so far, and passes them on.

        No application need have taken them by then: a receipt shows which members have a message.

        :param timeout: seconds until the Deferred fails with NotHandedOver; None to wait without a limit.
            It fails with NotRunning when the service has stopped.
        :raises LocalError: *timeout* is no number, or below 0; NotRunning: the service does not run.
        """
        seconds = seconds_of(timeout)
        return Deferred.fromCoroutine(self._running(stopping=True).handed_over(seconds))

    # ── receiving ───────────────────────────────────────────────────────────────────

    def register_handler(self, handler: Handler) -> None:
        """Let ``handler(message, link)`` see each message before later handlers and the listeners do.

        If its result is true, no later handler and no listener is called.

        :raises ValueError: *handler* does not take exactly two arguments.
        """
        self._delivery.register_handler(handler)

    @overload
    def messages(self, name: None = None) -> MessageQueue: ...

    @overload
    def messages(self, name: str, start: str | float = "new") -> NamedMessages: ...

    def messages(self, name: str | None = None, start: str | float = "new") -> MessageQueue | NamedMessages:
        """The messages from now on, for ``async for message in service.messages()``.

        :param name: of a consumer that keeps its place, also in the *history*: the iterator goes on with
            the messages that the consumer had not taken.  A message is taken when the next one is asked
            for.
        :param start: where a consumer begins whose name is new: with ``"new"`` messages, with ``"all"``
            that are held, or with those that came in the last so many seconds.
        :raises ConsumerInUse: an iterator of that name is open.
        :raises LocalError: *name* or *start* cannot be used, or there are too many names.
        """
        check_consumer(name, start)
        if name is None:
            return self._unnamed_messages()
        return self._delivery.named.open(name, start, self._named_messages)

    def _unnamed_messages(self) -> MessageQueue:
        return self._delivery.messages()

    def _named_messages(self, queue: NamedQueue) -> NamedMessages:
        return NamedMessages(queue, self._delivery.named.close)

    def hand_out(self, name: str, ready: Callable[[], None], start: str | float = "new") -> InFlight:
        """The messages of a named consumer, several at a time, each taken when it is acknowledged.

        :param name: and *start* and errors: as for :meth:`messages`.
        :param ready: is called when there may be a next message, or the end.
        :raises NotRunning: the service does not run.
        """
        self._running()
        named = self._delivery.named
        return named.open(name, start, lambda queue: InFlight(queue, named.pause, ready))

    def held(self) -> list[HeldStatus]:
        """The messages that this node holds, by runs of their authors, of which it is one.

        :raises NotRunning: the service does not run.
        """
        return self._running(stopping=True).reporting.held()

    def past(
        self, seconds: float = inf, author: bytes | None = None, count: int | None = None
    ) -> Iterator[Message]:
        """Messages that this node holds, each run in order; they are read while they are asked for.

        Up to 64 runs are given by the times at which messages were sent, by their authors' clocks.

        :param seconds: only those that came in so many last seconds.
        :param author: only those of the author with this id; None for those of all other nodes.
        :param count: only the newest so many of that author.
        :raises WrongValue: *count* is given without *author*.
        :raises NotRunning: the service does not run; while it iterates, StoreError: the history file cannot
            be read now.
        """
        if count is not None and author is None:
            raise WrongValue("count is of the messages of one author: give author, too")
        return self._running().past(seconds, author, count)

    @property
    def consumers(self) -> dict[str, Consumer]:
        """The consumers with names, by name, as they are now."""
        return self._delivery.named.values()

    def forget_consumer(self, name: str) -> None:
        """Forget a named consumer and its place: no message and no receipt waits for it any more.

        :raises ConsumerInUse: an iterator of that name is open.
        :raises LocalError: there is no such consumer.
        """
        self._delivery.forget_consumer(name)

    def _label_of(self, node_id: bytes) -> str | None:
        """The label of this node or of a member; None if it has none, or no such node is known."""
        return None if self._run is None else self._run.reporting.label_of(node_id)

    def _add_queue(self, make: Callable[[Bounds, Consumers], QueueT]) -> QueueT:
        """Hand messages to the queue that *make* makes, from now on."""
        return self._delivery.add(make)

    @property
    def _replays(self) -> bool:
        """Whether messages of the time before the node joined are asked for."""
        return self._settings._profile.replay > 0

    def _caught_up(self) -> Deferred[None]:
        """Fires when the node first has all that it missed, even if that was nothing."""
        return self._running().caught_up()

    def _outcomes(self) -> Deferred[None]:
        """Fires when it is known of each peer whether it can be reached, or when its time is over."""
        return Deferred.fromCoroutine(self._running(stopping=True).outcomes())

    def _running(self, stopping: bool = False) -> RunningNode:
        if self._run is not None and self._stopping and not stopping:
            raise NotRunning("the service is still stopping: wait for the Deferred that stopService() gave")
        if self._run is None:
            raise NotRunning("the service does not run: start it, or the application it belongs to")
        return self._run


def _checked_control(control: object) -> str | None:
    """The path of the control socket that *control* asks for; empty for one of the node's choice."""
    if isinstance(control, bool):
        return "" if control else None
    if isinstance(control, str | os.PathLike) and (path := os.fspath(control)) and isinstance(path, str):
        return os.path.abspath(path)
    raise LocalError(f"control is True, False or the path of a socket, not {control!r}")


def _not_plain(packets: tuple[object, ...]) -> bool:
    """Send nothing: the service does not run, or stops."""
    return False

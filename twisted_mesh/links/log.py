"""The log lines about links, and about the messages that this node sends.

Contract: lines that a peer can cause have a quota for each host; other lines are written from a
``debug_level`` on.  A payload is shown at level 5 only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mesh.addressing.addresses import show
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Dial, MemberGone
from twisted_mesh.errors import NO_FAULT, Reason, RemoteError
from twisted_mesh.escaping import name_of
from twisted_mesh.eventloop.log_quota import PeerLog
from twisted_mesh.identity import id_of
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Member, Refusal, shown
from twisted_mesh.network import Protocol as Network
from twisted_mesh.wire.membership import Purpose

_log = Logger()


class LinkLog:
    """The log of one run.

    :ivar label: gives the label of the node with an id, if one is known.
    """

    def __init__(
        self, clock: IReactorTime, config: MeshConfig, debug_level: int, network: Network, mode: str
    ) -> None:
        """:param network: of this node, and *mode* of its trust: logged if a peer has others."""
        self._debug = debug_level
        self._network = (
            f"this node is of subnet {network.subnet!r} with {network.encryption}, "
            f"{f'trust {mode!r}' if mode else 'open to everybody'}"
        )
        self._peers = PeerLog(_log, clock.seconds, config)
        self.label: Callable[[bytes], str | None] = lambda _: None

    def up(self, link: MeshProtocol, node_id: bytes, is_new: bool) -> None:
        """A link has come into the routing table; *is_new*: as the first link to its node."""
        text = "linked with {id} {link}" if is_new else "with {id} now {link}"
        self._note(1, text, id=self._name(node_id), link=link)

    def down(self, link: MeshProtocol, node_id: bytes) -> None:
        """A link has left the routing table."""
        # If the link ended for another reason, closing() has logged it, at every debug level.
        why = f": {link.error}" if link.error and link.error.reason in NO_FAULT else ""
        self._note(1, "link with {id} ended{why}", id=self._name(node_id), why=why)

    def dialling(self, dial: Dial) -> None:
        contact, purpose = dial.contact, dial.purpose.name.lower()
        to, who = show((contact.host, contact.port)), self._name(contact.id)
        self._note(2, "dials {to} for {purpose}: {who}", to=to, purpose=purpose, who=who)

    def exchange_begun(self, link: MeshProtocol, node_id: bytes) -> None:
        self._note(2, "exchange with {id} {link}", id=self._name(node_id), link=link)

    def member(self, member: Member) -> None:
        state = f"{'has' if member.state == 'left' else 'is'} {member.state}"
        self._note(1, "member {who} {state}", who=_named(member.id, member), state=state)

    def gone(self, gone: MemberGone, members: Mapping[bytes, Member]) -> None:
        """The roster has forgotten one of *members*."""
        if gone.asker is not None:
            who, asker = (_named(one, members.get(one)) for one in map(id_of, (gone.origin, gone.asker)))
            self._note(1, "member {who} is forgotten: {asker} asked for that", who=who, asker=asker)

    def closing(self, link: MeshProtocol, error: RemoteError) -> Refusal | None:
        """Log that a connection closes; return the Refusal that the application is told of, or None.

        It is told of no link or exchange that had begun, of no usual reason, and of no incoming connection
        that was merely lost, as to a port scan.
        """
        if link.exchange_begun and link.is_exchange and error.reason in NO_FAULT:
            self._note(2, "exchange with {to} ended: {why}", to=show(link.remote), why=error)
        if link.is_up or link.exchange_begun:
            if error.reason not in NO_FAULT:
                self._peers.line(link.remote[0], f"link {show(link.remote)} closed: {error}")
            return None
        # The application is not told of usual refusals, nor of port scans, which connect and send nothing.
        if error.reason in (Reason.DUPLICATE, Reason.LEAVING, Reason.ROOM, Reason.DONE):
            return None
        if error.reason is Reason.LOST and not link.outgoing:
            self._note(2, "{link} went without a word", link=link)
            return None
        why = f"{error}; {self._network}" if error.reason is Reason.SUBNET else str(error)
        in_use = error.reason is Reason.KEY and link.dialled_for is not Purpose.JOIN
        if link.outgoing and not in_use:  # the error goes to the caller that dialled
            self._note(2, "connection to {to} refused: {why}", to=show(link.remote), why=why)
        else:
            way = "to" if link.outgoing else "from"
            self._peers.line(link.remote[0], f"connection {way} {show(link.remote)} refused: {why}")
        return Refusal(link.remote, link.outgoing, error.reason.value, error.detail)

    def unanswered(self, link: MeshProtocol) -> None:
        """The peer, which this node has dialled, has not greeted."""
        text = f"no greeting from {show(link.remote)}: it may want a secret"
        self._peers.line(link.remote[0], text)

    @property
    def shows_messages(self) -> bool:
        """Whether there is a line for each message that is sent."""
        return self._debug >= 5

    def sending(self, type: int, packets: tuple[object, ...], size: int) -> None:
        """This node sends a message of the application, of *size* bytes packed."""
        if self.shows_messages:
            text = shown([type, *packets])
            _log.info("out: type {type}, {size} bytes, {text}", type=type, size=size, text=text)

    def _name(self, node_id: bytes) -> str:
        return name_of(node_id.decode(), self.label(node_id))

    def _note(self, level: int, text: str, **fields: object) -> None:
        if self._debug >= level:
            _log.info(text, **fields)


def _named(node_id: bytes, member: Member | None = None) -> str:
    return name_of(node_id.decode(), None if member is None else member.label)

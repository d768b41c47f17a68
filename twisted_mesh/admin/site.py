"""The connections of clients to a node's HTTP paths, and what bounds them.

Contract: a connection has one request.  A request's head, body and time are bounded, and so is the number
of clients, so a client that stalls costs a bounded amount and delays nobody.
"""

from __future__ import annotations

import select
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from twisted_mesh.admin.streams import BEAT
from twisted_mesh.config import MeshConfig

IDLE_SECONDS: Final = 60.0  # a client that sends nothing for so long is cut (guess)
REQUEST_SECONDS: Final = 120.0  # until a request must have come whole (guess)
JSON: Final = "application/json"


class Refused(Exception):
    """A request that cannot be answered as asked: its HTTP status, and a sentence for people."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


_TOO_LONG: Final = Refused(http.REQUEST_ENTITY_TOO_LARGE, "the body is too long")


def tell(request: Request, refused: Refused) -> bytes:
    """The answer to a request that is refused."""
    request.setResponseCode(refused.status)
    request.setHeader(b"content-type", JSON.encode())
    return msgspec.json.encode({"error": str(refused)}) + b"\n"


class Bounded(Request):
    """A request whose body is bounded; one that is longer is refused as soon as that is seen."""

    _is_too_long = False

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body, if there is room for it."""
        content: Any = self.content
        channel: Any = self.channel
        if self._is_too_long:
            return
        if content.tell() + len(data) > channel.site.most_body:
            self._is_too_long = True
            channel.refuse(_TOO_LONG)
        else:
            super().handleContentChunk(data)

    def render(self, resrc: IResource) -> None:
        """Answer with *resrc*, now or when it calls :meth:`answer`."""
        if (body := resrc.render(self)) is not NOT_DONE_YET:
            self.answer(body)

    def answer(self, body: bytes) -> None:
        """Write the answer, unless the client is gone."""
        if not self._disconnected:
            self.setHeader(b"content-length", str(len(body)).encode())
            self.write(body)
            self.finish()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer the request, unless it is refused already."""
        if not self._is_too_long:
            self.requestHeaders.removeHeader(b"content-type")  # of a form, which Twisted would parse
            super().requestReceived(command, path, version)


@implementer(IHalfCloseableProtocol)
class OneRequest(http.HTTPChannel):
    """A connection with one request.  More requests at once would all be answered in one turn.

    The request must have come whole within :data:`REQUEST_SECONDS`.  After that a client may close its
    sending half; if it is gone, it waits for no answer.
    """

    site: Any  # set by the factory
    _is_whole = False
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)
        self._deadline = self.site.clock.callLater(REQUEST_SECONDS, self.forceAbortClient)

    def allContentReceived(self) -> None:
        """The request has come whole."""
        self._is_whole = True
        self._met_deadline()
        super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of the body, and nothing behind it: Twisted would keep that, and read no more."""
        if not self._is_whole:
            super().rawDataReceived(data)

    def readConnectionLost(self) -> None:
        """The client sends no more: answer what has come whole, for as long as it is there."""
        transport: Any = self.transport
        if not self._is_whole:
            transport.loseConnection()
        elif _is_gone(transport):
            transport.abortConnection()
        else:
            self._deadline = self.site.clock.callLater(BEAT, self.readConnectionLost)

    def writeConnectionLost(self) -> None:
        """Nothing: this side closes no half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        self._met_deadline()
        super().connectionLost(reason)

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """Never: the connection ends with the answer."""
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def refuse(self, refused: Refused) -> None:
        """Answer in the middle of a request, and end the connection."""
        body = msgspec.json.encode({"error": str(refused)}) + b"\n"
        head = f"HTTP/1.1 {refused.status} Refused\r\nContent-Type: {JSON}\r\nConnection: close\r\n"
        transport: Any = self.transport
        transport.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.loseConnection()

    def _met_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


def _is_gone(transport: Any) -> bool:
    """Whether the far end of a UNIX socket is closed, and not its sending half alone."""
    asked = select.poll()
    asked.register(transport.fileno(), 0)  # the end is told in any case
    return bool(asked.poll(0))


class Clients(Site):
    """Answers at most ``control_clients`` clients at a time with the paths of *root*.

    It writes no access log: health checks would fill it.

    :ivar channels: the connections of the present clients.
    """

    protocol = OneRequest  # type: ignore[assignment]  # in place of a choice between versions of HTTP
    requestFactory = Bounded
    noisy = False

    def __init__(self, root: IResource, reactor: Any, config: MeshConfig) -> None:
        super().__init__(root, reactor=reactor, timeout=IDLE_SECONDS)
        self.clock = reactor
        self.most_body = config.control_body_bytes
        self.channels: set[OneRequest] = set()
        self._most = config.control_clients

    def buildProtocol(self, addr: Any) -> Any:
        """A connection; None, which closes it, if there are too many."""
        return super().buildProtocol(addr) if len(self.channels) < self._most else None

    def log(self, request: http.Request) -> None:
        """Write nothing."""

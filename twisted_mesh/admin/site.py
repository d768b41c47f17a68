"""The connections of clients to a node's HTTP paths, and what bounds them.

Contract: a connection has one request.  A request's head, body and time are bounded, and so is the number
of clients, so a client that stalls costs a bounded amount and delays nobody.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.address import UNIXAddress
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
REQUEST_SECONDS: Final = 120.0  # until a request must have come whole, and until an answer is read (guess)
JSON: Final = "application/json"
#: Headers of all answers: no browser keeps one, guesses what it is, or shows it in another site's page.
HEADERS: Final = {
    b"Cache-Control": b"no-store",
    b"X-Content-Type-Options": b"nosniff",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Referrer-Policy": b"no-referrer",
    b"X-Frame-Options": b"DENY",
}


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


def not_allowed(request: Request, *methods: bytes) -> bytes:
    """The answer to a request whose method is none of *methods*."""
    told = b", ".join(methods)
    request.setHeader(b"allow", told + b", HEAD" if b"GET" in methods else told)
    return tell(request, Refused(http.NOT_ALLOWED, f"this path takes {told.decode()} alone"))


class Judge(Protocol):
    """Decides which requests are answered."""

    def refusal(self, request: Request) -> Refused | None:
        """Why *request*, of which the head has come, is not answered; None if it is."""


class Bounded(Request):
    """A request whose body is bounded; one that is longer is refused as soon as that is seen.

    :ivar is_refused: whether it was refused before it came whole.
    """

    is_refused = False

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body, if there is room for it."""
        if self.is_refused:
            return
        content: Any = self.content
        channel: Any = self.channel
        if content.tell() + len(data) > channel.site.most_body:
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
        if not self.is_refused:
            self.requestHeaders.removeHeader(b"content-type")  # of a form, which Twisted would parse
            for name, value in HEADERS.items():
                self.setHeader(name, value)
            super().requestReceived(command, path, version)


@implementer(IHalfCloseableProtocol)
class OneRequest(http.HTTPChannel):
    """A connection with one request.  More requests at once would all be answered in one turn.

    The request must have come whole within :data:`REQUEST_SECONDS`, and its answer must be read within as
    long.  After the request a client of a UNIX socket may close its sending half; if it is gone, it waits
    for no answer.
    """

    site: Any  # set by the factory
    _is_whole = False
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)
        self._must_meet(REQUEST_SECONDS, self.forceAbortClient)

    @property
    def target(self) -> bytes:
        """The path of the request, as it came."""
        return self._path

    @property
    def method(self) -> bytes:
        """The method of the request."""
        return self._command

    def allHeadersReceived(self) -> None:
        """Refuse the request whose head has come, or let its body come."""
        refused = self.site.judge and self.site.judge.refusal(self.requests[-1])
        if refused is None:
            super().allHeadersReceived()
        else:
            self.refuse(refused)

    def allContentReceived(self) -> None:
        """Answer the request, which has come whole."""
        self._is_whole = True
        self._met_deadline()
        super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of the body.

        Bytes behind the body are ignored: Twisted would keep them, and read no more.
        """
        if not self._is_whole:
            super().rawDataReceived(data)

    def readConnectionLost(self) -> None:
        """Since the client sends no more: answer a whole request, as long as the client is there."""
        transport: Any = self.transport
        if not self._is_whole:
            transport.loseConnection()
        elif not self.requests:
            pass  # the answer is written, and ends the connection
        elif _is_gone(transport):
            transport.abortConnection()
        else:
            self._must_meet(BEAT, self.readConnectionLost)

    def writeConnectionLost(self) -> None:
        """Do nothing: this node never closes only its own sending half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        self._met_deadline()
        super().connectionLost(reason)

    def requestDone(self, request: http.Request) -> None:
        """End the connection once the client has read the answer, which is written now."""
        self._must_meet(REQUEST_SECONDS, self.forceAbortClient)
        super().requestDone(request)

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """Keep no connection for another request: each ends with its answer."""
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def refuse(self, refused: Refused) -> None:
        """Refuse a request that has not come whole, and end the connection."""
        self.requests[-1].is_refused = True
        body = msgspec.json.encode({"error": str(refused)}) + b"\n"
        headers = HEADERS | {
            b"Content-Type": JSON.encode(),
            b"Content-Length": b"%d" % len(body),
            b"Connection": b"close",
        }
        if refused.status == http.UNAUTHORIZED:
            headers[b"WWW-Authenticate"] = b"Bearer"
        if refused.status == http.NOT_ALLOWED:
            headers[b"Allow"] = b"GET, HEAD"
        lines = [b"HTTP/1.1 %d Refused" % refused.status, *map(b": ".join, headers.items()), b"", body]
        transport: Any = self.transport
        transport.write(b"\r\n".join(lines))
        self._must_meet(REQUEST_SECONDS, self.forceAbortClient)
        self.loseConnection()

    def _must_meet(self, seconds: float, too_late: Callable[[], None]) -> None:
        """Call *too_late* in so many *seconds*, unless :meth:`_met_deadline` is called before."""
        self._met_deadline()
        self._deadline = self.site.clock.callLater(seconds, too_late)

    def _met_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


def _is_gone(transport: Any) -> bool:
    """Whether the client has closed the whole connection.

    TCP does not tell that from the end of the client's sending half, so there this counts as the end.
    """
    if not isinstance(transport.getHost(), UNIXAddress):
        return True
    asked = select.poll()
    asked.register(transport.fileno(), 0)  # poll() tells the end of the connection whatever is asked for
    return bool(asked.poll(0))


class Clients(Site):
    """Answers at most ``control_clients`` clients at a time with the paths of *root*.

    It writes no access log: health checks would fill it.

    :ivar channels: the connections of the present clients.
    """

    protocol = OneRequest  # type: ignore[assignment]  # in place of a choice between versions of HTTP
    requestFactory = Bounded
    noisy = False

    def __init__(
        self, root: IResource, reactor: Any, config: MeshConfig, judge: Judge | None = None
    ) -> None:
        """:param judge: decides which requests are answered; None if all are."""
        super().__init__(root, reactor=reactor, timeout=IDLE_SECONDS)
        self.judge = judge
        self.clock = reactor
        self.most_body = config.control_body_bytes
        self.channels: set[OneRequest] = set()
        self._most = config.control_clients

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a connection; return None, which closes it, if there are too many."""
        return super().buildProtocol(addr) if len(self.channels) < self._most else None

    def log(self, request: http.Request) -> None:
        """Log no request."""

"""The paths of a node's HTTP door: what each answers, and how errors are told.

Contract: each answer is JSON, but for ``/metrics`` and the streams.  An error is a status and
``{"error": sentence}``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_mesh.admin.asking import Asking
from twisted_mesh.admin.bodies import arguments_of, count_of, seconds_of
from twisted_mesh.admin.consuming import Consuming
from twisted_mesh.admin.metrics import CONTENT_TYPE, Metrics
from twisted_mesh.admin.page import FILES, File
from twisted_mesh.admin.recent import Recent
from twisted_mesh.admin.removing import Removing
from twisted_mesh.admin.site import JSON, Bounded, Refused, not_allowed, tell
from twisted_mesh.admin.streams import EVENTS, EventStream, PastStream
from twisted_mesh.delivery.names import UnknownName
from twisted_mesh.errors import (
    Congested,
    ConsumerInUse,
    KeyInUse,
    LocalError,
    MeshError,
    NotRunning,
    StoreFull,
    TrustError,
)
from twisted_mesh.service import MeshService
from twisted_mesh.status import Status

MOST_PAST: Final = 1_000_000  # messages that one client can choose to read; without a choice all (guess)
_log = Logger()


class Paths:
    """Answers the requests for one node.

    :cvar is_demo: whether the page can steer the nodes by the path ``/demo`` (``mesh demo``).
    :ivar config: the limits.
    :ivar addresses: of the node's page, with the token: empty if the node has no port for HTTP.
    """

    is_demo = False

    def __init__(self, clock: IReactorTime, node: MeshService, recent: Recent | None = None) -> None:
        """:param recent: the newest events; None for those from now on."""
        if recent is None:
            recent = Recent(clock, node, node.config, f"{time.time_ns() // 1_000_000:x}")
        self.config = node.config
        self.addresses: list[str] = []
        self._node = node
        self._recent = recent
        self._metrics = Metrics(self.status)
        self._asking = Asking(clock, node)
        self._consuming = Consuming(clock, node)

    def root(self) -> Resource:
        """The tree of all paths."""
        root, node = Root(), self._node
        gets: dict[bytes, Callable[[bytes], Any]] = {
            b"status": lambda _: self.status(),
            b"links": lambda _: node.status().links,
            b"members": lambda _: node.status().members,
            b"authors": lambda _: node.status().authors,
            b"receipts": lambda _: node.status().receipts,
            b"history": lambda _: node.held(),
            b"healthz": lambda _: {"status": "ok"},
            b"readyz": self._ready,
        }
        for path, answer in gets.items():
            root.putChild(path, Answer({b"GET": answer}))
        asking, removing = self._asking, Removing(node)
        posts = {
            b"send": asking.send,
            b"receipt": asking.receipt,
            b"request": asking.request,
            b"query": asking.query,
            b"ping": asking.ping,
            b"forget": asking.forget,
            b"trace": asking.trace,
            b"lag": asking.lag,
            b"cut": removing.cut,
            b"policy": removing.policy,
            b"ack": self._consuming.acknowledge,
        }
        for path, answer in posts.items():
            root.putChild(path, Answer({b"POST": answer}))
        root.putChild(b"metrics", Answer({b"GET": lambda _: self._metrics.text()}, CONTENT_TYPE))
        root.putChild(b"page", Answer({b"GET": self._page}))
        root.putChild(b"graph", Answer({b"GET": asking.graph}))
        for path, (file, content_type) in FILES.items():
            root.putChild(path, File(file, content_type))
        root.putChild(b"events", Stream(self._events, self._check_room))
        root.putChild(b"messages", Stream(self._messages, self._check_room))
        return root

    def status(self) -> Status:
        """The node, with the tables and counts of its clients."""
        status, recent = self._node.status(), self._recent
        return msgspec.structs.replace(
            status,
            dropped=status.dropped | {"slow_readers": recent.slow_readers},
            footprint=status.footprint
            | recent.footprint()
            | self._asking.footprint()
            | self._consuming.footprint(),
        )

    def stop(self) -> None:
        """Keep no events and no graph any more: the node stops."""
        self._recent.stop()
        self._asking.stop()

    def _check_room(self) -> None:
        """:raises Refused: there are too many streams; the other connections are for other requests."""
        most = max(1, self.config.control_clients * 3 // 4)
        if len(self._recent) + len(self._consuming) >= most:
            raise Refused(http.SERVICE_UNAVAILABLE, f"{most} readers follow streams already")

    def _events(self, request: Request) -> None:
        EventStream(request, self._recent, None).follow()

    def _messages(self, request: Request) -> None:
        if b"consumer" in (request.args or {}):
            self._consuming.begin(request)
        elif request.args:
            self._past(request)
        else:
            EventStream(request, self._recent, "message").follow()

    def _past(self, request: Request) -> None:
        told = arguments_of(request, ("since", "author", "count"))
        name, count = told.get("author"), told.get("count")
        past = self._node.past(
            seconds_of(told.get("since", "all")),
            None if name is None else self._asking.author_named(name),
            None if count is None else count_of(count, MOST_PAST),
        )
        PastStream(request, self._recent, past, name is None).follow()

    def _page(self, _: bytes) -> Any:
        """Where the page is, with the token that opens it."""
        if not self.addresses:
            raise Refused(
                http.NOT_FOUND,
                "this node has no page: start it with --http tcp:8420:interface=127.0.0.1 "
                "--http-token FILE",
            )
        return {"addresses": self.addresses, "demo": self.is_demo}

    def _ready(self, _: bytes) -> Any:
        """Whether the node has joined and may publish; :class:`Refused` with 503 if not."""
        status = self._node.status()
        if not status.node.joined:
            raise Refused(http.SERVICE_UNAVAILABLE, "; ".join(status.warnings) or "no neighbour yet")
        return {"status": "ready", "warnings": status.warnings}


class Root(Resource):
    """All paths; another one is an error that names them.  The path ``/`` is the page."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        """The answer to a path that does not exist, which names those that do."""
        names = " ".join(f"/{name.decode()}" for name in sorted(self.children) if name not in FILES)
        return NoPath(f"there is no such path; the paths are {names}")


class NoPath(Resource):
    """The answer to a path that does not exist."""

    isLeaf = True

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self._sentence = sentence

    def render(self, request: Request) -> bytes:
        """Answer with 404, and the sentence."""
        return tell(request, Refused(http.NOT_FOUND, self._sentence))


class Answer(Resource):
    """A path with one function a method; each gets the body, and returns a value or a Deferred of one."""

    isLeaf = True

    def __init__(self, methods: dict[bytes, Callable[[bytes], Any]], content_type: str = JSON) -> None:
        super().__init__()
        self._methods = methods
        self._content_type = content_type
        self.allowedMethods = tuple(methods)

    def render(self, request: Bounded) -> Any:
        """Answer *request*."""
        method = self._methods.get(_method(request))
        if method is None:
            return not_allowed(request, *self._methods)
        try:
            content: Any = request.content
            result = method(content.read())
        except Exception:
            return _failed(request, Failure())
        if not isinstance(result, Deferred):
            return self._encoded(request, result)
        request.notifyFinish().addErrback(lambda _: result.cancel())
        result.addCallbacks(
            lambda value: request.answer(self._encoded(request, value)),
            lambda failure: request.answer(_failed(request, failure)),
        )
        return NOT_DONE_YET

    def _encoded(self, request: Request, value: Any) -> bytes:
        request.setHeader(b"content-type", self._content_type.encode())
        return value if isinstance(value, bytes) else msgspec.json.encode(value) + b"\n"


class Stream(Resource):
    """A path whose answer is a stream of events (server-sent events)."""

    isLeaf = True

    def __init__(self, begin: Callable[[Request], None], check_room: Callable[[], None]) -> None:
        """
        :param begin: begins to answer a request; :param check_room: raises :class:`Refused` if there are
            too many streams.
        """
        super().__init__()
        self._begin = begin
        self._check_room = check_room

    def render(self, request: Request) -> Any:
        """Begin a stream."""
        if _method(request) != b"GET":
            return not_allowed(request, b"GET")
        try:
            self._check_room()
            if request.method == b"HEAD":
                request.setHeader(b"content-type", EVENTS)
                request.finish()
            else:
                self._begin(request)
        except Exception:
            return _failed(request, Failure())
        return NOT_DONE_YET


def _method(request: Request) -> bytes:
    """The method of *request*; HEAD is a GET of which Twisted leaves out the body of the answer."""
    method: bytes = request.method
    return b"GET" if method == b"HEAD" else method


def _failed(request: Request, failure: Failure) -> bytes:
    error = failure.value
    match error:
        case Refused():
            return tell(request, error)
        case UnknownName():
            return tell(request, Refused(http.NOT_FOUND, str(error)))
        case Congested() | StoreFull() | KeyInUse() | NotRunning():
            return tell(request, Refused(http.SERVICE_UNAVAILABLE, str(error)))
        case ConsumerInUse():
            return tell(request, Refused(http.CONFLICT, str(error)))
        case TrustError():
            return tell(request, Refused(http.FORBIDDEN, str(error)))
        case MeshError() if not isinstance(error, LocalError):
            return tell(request, Refused(http.GATEWAY_TIMEOUT, str(error)))
        case TypeError() | ValueError() | LocalError():  # such as packets that cannot be sent
            return tell(request, Refused(http.BAD_REQUEST, str(error)))
        case _:
            if failure.check(CancelledError):
                return b""
            _log.failure("a request to the control socket failed", failure)
            return tell(request, Refused(http.INTERNAL_SERVER_ERROR, "a bug of this node: see its log"))

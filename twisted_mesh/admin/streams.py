"""Events as a stream without end: server-sent events (WHATWG HTML, 9.2).

Contract: a stream writes only while its transport accepts bytes.  A comment is written every :data:`BEAT`
seconds, so that the end of a connection is noticed.  A reader whose host has answered nothing for
:data:`GONE` seconds is cut.

A stream of the newest events keeps no event itself, but a number in
:class:`~twisted_mesh.admin.recent.Recent`.  A reader that falls out of that is told how many events it
missed.  A reader that comes back with ``Last-Event-ID`` goes on behind that event; one that takes nothing
for :data:`PATIENCE` seconds is cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.server import Request
from zope.interface import implementer

from twisted_mesh.admin.recent import Recent
from twisted_mesh.cli.json_values import fields_of
from twisted_mesh.errors import StoreError
from twisted_mesh.escaping import for_json
from twisted_mesh.links.in_transit import has_vanished
from twisted_mesh.message import Gap, Message

EVENTS: Final = b"text/event-stream; charset=utf-8"
BEAT: Final = 15.0  # seconds from one comment to the next (guess)
PATIENCE: Final = 60.0  # seconds until a client that takes nothing is cut (guess)
GONE: Final = 60.0  # seconds until a host that answers nothing is gone: TCP waits for 15 minutes (guess)
_SEPARATOR: Final = "."
_MOST_DIGITS: Final = 19


@implementer(IPushProducer)
class SentEvents(ABC):
    """An answer that is a stream of events: bytes are written while the transport accepts some."""

    def __init__(self, request: Request, clock: IReactorTime) -> None:
        self._request = request
        self._paused = False
        self._beats = LoopingCall(self._look)
        self._beats.clock = clock

    def begin(self, comment: bytes) -> None:
        """Write the head of the answer and a comment, and then the events."""
        request = self._request
        request.setHeader(b"content-type", EVENTS)
        request.notifyFinish().addBoth(lambda _: self.stopProducing())
        self._beats.start(BEAT, now=False)
        request.registerProducer(self, True)
        request.write(b": %s\n\n" % comment)
        self.write_on()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.write_on()

    def stopProducing(self) -> None:
        self._paused = True
        if self._beats.running:
            self._beats.stop()

    def end(self) -> None:
        """End the answer."""
        if not self._request.finished:
            self._request.unregisterProducer()
            self._request.finish()

    @abstractmethod
    def write_on(self) -> None:
        """Write the events that are there, until the transport accepts no more."""

    def _look(self) -> None:
        channel: Any = self._request.channel
        if has_vanished(channel.transport, GONE):
            channel.forceAbortClient()
        else:
            self._beat()

    def _beat(self) -> None:
        if not self._paused:
            self._request.write(b":\n\n")

    def _event(self, name: str, data: bytes, id: str | None = None) -> None:
        line = "" if id is None else f"id: {id}\n"
        self._request.write(b"%sevent: %s\ndata: %s\n\n" % (line.encode(), name.encode(), data))


class EventStream(SentEvents):
    """One reader's stream of the newest events of a node."""

    def __init__(self, request: Request, recent: Recent, only: str | None) -> None:
        """:param only: the name of the events to send; None for all."""
        super().__init__(request, recent.clock)
        self._recent = recent
        self._only = only
        self._stalled = 0.0  # seconds for which the transport has accepted nothing, by the beats
        self._told = 0  # the number of the last event that was written, or skipped

    def follow(self) -> None:
        """Write every event from now on, or behind the one of ``Last-Event-ID``."""
        last = self._last_told()
        self._told = self._recent.last if last is None else min(last, self._recent.last)
        self._recent.begin(self.write_on)
        self.begin(b"events of this node")

    def resumeProducing(self) -> None:
        self._stalled = 0.0
        super().resumeProducing()

    def stopProducing(self) -> None:
        super().stopProducing()
        self._recent.end(self.write_on)

    def write_on(self) -> None:
        if self._paused:
            return
        recent = self._recent
        if (missed := recent.oldest - 1 - self._told) > 0:
            self._told += missed
            self._tell("missed", msgspec.json.encode({"events": missed}))
        for event in recent.after(self._told):
            self._told = event.number
            if self._only is None or event.name == self._only:
                self._tell(event.name, event.data)
            if self._paused:  # the transport has enough: the rest is written when it resumes
                return

    def _tell(self, name: str, data: bytes) -> None:
        self._event(name, data, f"{self._recent.run}{_SEPARATOR}{self._told}")

    def _beat(self) -> None:
        super()._beat()
        if not self._paused:
            return
        self._stalled += BEAT
        if self._stalled >= PATIENCE:
            self._recent.slow_readers += 1
            channel: Any = self._request.channel
            channel.forceAbortClient()

    def _last_told(self) -> int | None:
        """The number of the event in ``Last-Event-ID``; None if that is none of this node's."""
        last_id = self._request.getHeader(b"last-event-id")
        text = last_id.decode("ascii", "replace") if isinstance(last_id, bytes) else last_id or ""
        run, _, number = text.partition(_SEPARATOR)
        is_number = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS
        return int(number) if run == self._recent.run and is_number else None


class PastStream(EventStream):
    """One reader's stream of messages that are held, and then of those from now on."""

    def __init__(self, request: Request, recent: Recent, past: Iterator[Message], follows: bool) -> None:
        """:param follows: whether the stream goes on with new messages."""
        super().__init__(request, recent, "message")
        has_past = self._last_told() is not None  # and goes on behind it
        self._past: Iterator[Message] | None = None if has_past else past
        self._follows = follows

    def write_on(self) -> None:
        while self._past is not None and not self._paused:
            try:
                message = next(self._past, None)
            except StoreError as error:
                self._event("failure", msgspec.json.encode({"error": str(error)}))
                message = None
            if message is not None:
                self._event("message", data_of(message, self._recent.label_of))
                continue
            self._past = None
            self._event("now", b"{}")
            if not self._follows:
                self.end()
        if self._past is None:
            super().write_on()


def data_of(value: Message | Gap, label_of: Callable[[bytes], str | None]) -> bytes:
    """The data of the event of *value*; *label_of* gives the label of a node, by its id."""
    return for_json(fields_of(value, label_of)).encode("utf-8", "replace")

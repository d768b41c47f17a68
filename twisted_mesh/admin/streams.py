"""Events as a stream without end: server-sent events (WHATWG HTML, 9.2).

Contract: a stream writes only while its transport accepts bytes; it keeps no event itself, but a number in
:class:`~twisted_mesh.admin.recent.Recent`.  A reader that falls out of that is told how many events it
missed.  A reader that comes back with ``Last-Event-ID`` goes on behind that event.  A comment is written
every :data:`BEAT` seconds, so that the end of a connection is noticed; a reader that takes nothing for
:data:`PATIENCE` seconds is cut.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.web.server import Request
from zope.interface import implementer

from twisted_mesh.admin.recent import Recent

BEAT: Final = 15.0  # (guess)
PATIENCE: Final = 60.0  # (guess)
_SEPARATOR: Final = "."
_MOST_DIGITS: Final = 19


@implementer(IPushProducer)
class EventStream:
    """One reader's stream."""

    def __init__(self, request: Request, recent: Recent, only: str | None) -> None:
        self._request = request
        self._recent = recent
        self._only = only
        self._paused = False
        self._stalled = 0.0  # seconds for which the transport has accepted nothing, by the beats
        self._told = 0  # the number of the last event that was written, or skipped
        self._beats = LoopingCall(self._beat)

    def set_headers(self) -> None:
        """Set the headers of the answer."""
        self._request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")

    def begin(self) -> None:
        """Write the head, and every event from now on, or behind the one of ``Last-Event-ID``."""
        request, recent = self._request, self._recent
        request.channel.setTimeout(None)  # a stream is silent for as long as nothing happens
        self._told = self._begin_behind(request.getHeader(b"last-event-id"))
        request.notifyFinish().addBoth(lambda _: self.stopProducing())
        recent.begin(self._write)
        self._beats.clock = recent.clock
        self._beats.start(BEAT, now=False)
        request.registerProducer(self, True)
        request.write(b": events of this node, from now on\n\n")
        self._write()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused, self._stalled = False, 0.0
        self._write()

    def stopProducing(self) -> None:
        self._paused = True
        self._recent.end(self._write)
        if self._beats.running:
            self._beats.stop()

    def _beat(self) -> None:
        if not self._paused:
            self._request.write(b":\n\n")
        elif (stalled := self._stalled + BEAT) < PATIENCE:
            self._stalled = stalled
        else:
            self._recent.slow_readers += 1
            channel: Any = self._request.channel
            channel.forceAbortClient()

    def _begin_behind(self, last_id: bytes | str | None) -> int:
        text = last_id.decode("ascii", "replace") if isinstance(last_id, bytes) else last_id or ""
        run, _, number = text.partition(_SEPARATOR)
        is_number = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS
        if run != self._recent.run or not is_number:
            return self._recent.last
        return min(int(number), self._recent.last)

    def _write(self) -> None:
        if self._paused:
            return
        recent = self._recent
        if (missed := recent.oldest - 1 - self._told) > 0:
            self._told += missed
            self._event("missed", msgspec.json.encode({"events": missed}))
        for event in recent.after(self._told):
            self._told = event.number
            if self._only is None or event.name == self._only:
                self._event(event.name, event.data)
            if self._paused:  # the transport has enough: the rest is written when it resumes
                return

    def _event(self, name: str, data: bytes) -> None:
        number = f"{self._recent.run}{_SEPARATOR}{self._told}"
        self._request.write(b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), name.encode(), data))

"""Listeners of events: pyee's emitter, with failures that stay where they are.

Contract: whatever a listener does, whoever emits goes on, and so do the other listeners.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pyee.base import EventEmitter
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


class Listeners(EventEmitter):
    """pyee's emitter, except that a listener's failure stays with that listener.

    pyee alone would raise it into whoever emits, and leave the listeners behind it out.
    """

    def _emit_run(self, f: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            result = f(*args, **kwargs)
        except (Exception, SystemExit):  # the reactor lets none of them end the process
            self._failed(f, Failure())
            return
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(lambda failure: self._failed(f, failure))

    def _failed(self, listener: Callable[..., Any], failure: Failure) -> None:
        _log.failure("listener {listener} failed", failure, listener=listener)
        # A failing listener of failures is only logged, or it would be called for ever.
        if listener not in self.listeners("failure"):
            self.emit("failure", failure)


class Emitting:
    """The emitter's methods, of something that has an emitter."""

    _emitter: Listeners

    def on(self, event: str, f: Callable[..., Any] | None = None) -> Any:
        """Call *f* at each *event*; as a decorator without *f*.

        Events: ``message(Message)``, ``connect(service)``, ``disconnect(service)``, ``gap(Gap)``,
        ``member(Member)``, ``refused(Refusal)``, ``failure(Failure)``.
        """
        return self._emitter.on(event) if f is None else self._emitter.on(event, f)

    def once(self, event: str, f: Callable[..., Any] | None = None) -> Any:
        """As :meth:`on`, for the next time alone."""
        return self._emitter.once(event) if f is None else self._emitter.once(event, f)

    def emit(self, event: str, *args: Any, **kwargs: Any) -> bool:
        """Call the listeners of *event*; whether there was one."""
        return self._emitter.emit(event, *args, **kwargs)

    def add_listener(self, event: str, f: Callable[..., Any]) -> Callable[..., Any]:
        """Call *f* at each *event*."""
        return self._emitter.add_listener(event, f)

    def remove_listener(self, event: str, f: Callable[..., Any]) -> None:
        """Call *f* no more."""
        self._emitter.remove_listener(event, f)

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Call nobody at *event* any more, or at any."""
        self._emitter.remove_all_listeners(event)

    def listeners(self, event: str) -> list[Callable[..., Any]]:
        """Who is called at *event*."""
        return self._emitter.listeners(event)

    def event_names(self) -> set[str]:
        """The events somebody listens to."""
        return self._emitter.event_names()

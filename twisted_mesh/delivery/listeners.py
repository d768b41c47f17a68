"""Listeners of events: pyee's emitter, with failures that stay where they are.

Contract: whatever a listener does, whoever emits goes on, and so do the other listeners.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from pyee.base import EventEmitter
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

Listener = Callable[..., Any]
F = TypeVar("F", bound=Listener)
_log = Logger()
#: What asyncio says where nothing drives its futures, and what to do about it.
_UNDRIVEN: Final = ("await wasn't used with future", "no running event loop")
_REMEDY: Final = (
    "Twisted's reactor calls handlers and listeners, and a listener awaits Deferreds. For what is asyncio's"
    " install twisted.internet.asyncioreactor first of all, and in a listener"
    " `await Deferred.fromFuture(asyncio.ensure_future(...))`;"
    " those of a MeshSocket give it to their loop with asyncio.run_coroutine_threadsafe()"
)


class Listeners(EventEmitter):
    """pyee's emitter, except that a listener's failure stays with that listener.

    pyee alone would raise it into whoever emits, and leave the listeners behind it out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._called: dict[str, tuple[Listener, ...]] = {}  # until somebody comes or goes

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Call nobody at *event* any more, or at any."""
        super().remove_all_listeners(event)
        self._called = {}

    # What follows is pyee's own way to add, remove and call one.

    def _add_event_handler(self, event: str, k: Listener, v: Listener) -> None:
        super()._add_event_handler(event, k, v)
        self._called = {}

    def _remove_listener(self, event: str, f: Listener) -> None:
        super()._remove_listener(event, f)
        self._called = {}

    def _emit_run(self, f: Listener, args: Any, kwargs: Any) -> None:
        try:
            result = f(*args, **kwargs)
        except BaseException:  # none would end the process, but the link whose bytes are read
            self._failed(f, explained(Failure()))
        else:
            self._returned(f, result)

    def _calls(self, event: str) -> tuple[Listener, ...]:
        with self._lock:
            called = self._called[event] = tuple(self._events.get(event, {}).values())
        return called

    def _failed(self, listener: Listener, failure: Failure) -> None:
        _log.failure("listener {listener} failed", failure, listener=listener)
        # A failing listener of failures is only logged, or it would be called for ever.
        if listener not in self.listeners("failure"):
            self.emit("failure", failure)

    def _returned(self, listener: Listener, result: object) -> None:
        """*listener* may have begun something that takes longer."""
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(lambda failure: self._failed(listener, explained(failure)))


def explained(failure: Failure) -> Failure:
    """*failure*, which says what to do if user code awaited what asyncio alone can wait for."""
    if isinstance(failure.value, RuntimeError) and (text := failure.getErrorMessage()) in _UNDRIVEN:
        failure.value.args = (f"{text}: {_REMEDY}",)
    return failure


def emit_one(listeners: Listeners, event: str, what: object) -> bool:
    """``listeners.emit(event, what)`` in a third of the time (measured): for what happens very often."""
    called = listeners._called.get(event)
    if called is None:
        called = listeners._calls(event)
    for listener in called:
        try:
            result = listener(what)
        except BaseException:
            listeners._failed(listener, explained(Failure()))
        else:
            if result is not None:
                listeners._returned(listener, result)
    return bool(called)


class Emitting:
    """The emitter's methods, of something that has an emitter."""

    _emitter: Listeners

    @overload
    def on(self, event: str, f: None = None) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, f: F) -> F: ...

    def on(self, event: str, f: Listener | None = None) -> Listener:
        """Call *f* at each *event*; as a decorator without *f*.

        Events: ``message(Message)``, ``connect(service)``, ``disconnect(service)``, ``member(Member)``,
        ``gap(Gap)``, ``receipt(Receipt)``, ``refused(Refusal)``, ``failure(Failure)``.
        """
        return self._emitter.on(event) if f is None else self._emitter.on(event, f)

    @overload
    def once(self, event: str, f: None = None) -> Callable[[F], F]: ...

    @overload
    def once(self, event: str, f: F) -> F: ...

    def once(self, event: str, f: Listener | None = None) -> Listener:
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

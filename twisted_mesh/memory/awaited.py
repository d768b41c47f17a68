"""Finds out that a test awaits something that only MemoryMesh.run() can bring, and says so at once.

Contract: an await fails only if a test's own coroutine, or a task of asyncio, would wait: while it waits,
nothing can call ``run()``.  A coroutine that the test began with ``Deferred.fromCoroutine`` waits as usual,
and so does all code that runs inside ``run()``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from functools import wraps
from inspect import CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

from twisted_mesh.delivery.named import NamedMessages
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.eventloop.deferreds import Handover
from twisted_mesh.message import Message

P = ParamSpec("P")
T = TypeVar("T")
_COROUTINE: Final = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_GENERATOR
#: Packages that drive the coroutines of tests.  ``Deferred.fromCoroutine`` may stand in between.
_RUNNERS: Final = ("twisted.trial._asynctest", "asyncio", "pytest_twisted")
_BETWEEN: Final = ("twisted.internet.defer", "twisted.internet.utils")


class RunGuard:
    """Knows whether the time of a MemoryMesh goes.

    :ivar runs: whether ``run()`` is being called.
    """

    def __init__(self) -> None:
        self.runs = False

    def check(self) -> None:
        """:raises RuntimeError: the coroutine that awaits now would wait for ever."""
        if not self.runs and _is_driven_by_a_runner():
            raise RuntimeError(
                "this test would wait for ever: only mesh.run() lets anything happen. Begin the call, let "
                "time pass, then await: done = service.connect(host, port); mesh.run(1); await done"
            )

    def checked(self, method: Callable[P, Deferred[T]]) -> Callable[P, Deferred[T]]:
        """*method*, whose Deferred refuses to be awaited by a test."""

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
            return self._guarded(method(*args, **kwargs))

        return call

    def _guarded(self, deferred: Deferred[T]) -> Deferred[T]:
        if deferred.called or isinstance(deferred, _Guarded):
            return deferred
        kind = _GuardedHandover if isinstance(deferred, Handover) else _Guarded
        guarded: Any = kind(lambda _: deferred.cancel())
        guarded.guard = self
        deferred.chainDeferred(guarded)
        return guarded  # type: ignore[no-any-return]


class GuardedQueue(MessageQueue):
    """A ``messages()`` for which a test cannot wait before a message has come."""

    guard: RunGuard

    async def __anext__(self) -> Message:
        if not len(self) and not self.runs_behind and not self.has_ended:
            self.guard.check()
        return await super().__anext__()


class GuardedNamed(NamedMessages):
    """The messages of a named consumer, for which a test cannot wait before one has come."""

    guard: RunGuard

    async def __anext__(self) -> Message:
        if not self.is_ready:
            self.guard.check()
        return await super().__anext__()


class _Guarded(Deferred[Any]):
    """A Deferred that a test cannot await before it has fired."""

    guard: RunGuard

    def __await__(self) -> Generator[Deferred[Any], None, Any]:
        if not self.called:
            try:
                self.guard.check()
            except RuntimeError:
                self.addErrback(lambda _: None)  # nobody waits for it any more
                self.cancel()
                raise
        return self.__iter__()


class _GuardedHandover(Handover, _Guarded):
    """The same of a message to one peer."""


def _is_driven_by_a_runner() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_code.co_flags & _COROUTINE or _name(frame) == __name__):
        frame = frame.f_back
    while frame is not None and _name(frame) in _BETWEEN:
        frame = frame.f_back
    return frame is not None and any(f"{_name(frame)}.".startswith(f"{each}.") for each in _RUNNERS)


def _name(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name

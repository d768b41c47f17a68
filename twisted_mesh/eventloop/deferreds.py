"""Groups of Deferreds that wait, for one event or for conditions, and other helpers for Deferreds.

Contract: if a Deferred is cancelled, the others still wait.  When an event happens, all Deferreds that wait
fire, even if a callback of the first adds a Deferred, or cancels one that has not fired yet.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from math import inf
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import DebugInfo, Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.errors import Unreachable, WrongType, WrongValue

_FOR_EVER: Final = 1e9  # seconds (31 years): for a longer time no timer is set (guess)
T = TypeVar("T")
_log = Logger()


def seconds_of(timeout: object) -> float:
    """The seconds of a *timeout* that an application gave; infinite for None.

    :raises WrongType: *timeout* is neither a number of seconds nor None.
    :raises WrongValue: *timeout* is less than 0, or NaN.
    """
    if timeout is None:
        return inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise WrongType(f"timeout must be seconds or None, not {timeout!r}")
    if timeout != timeout:
        raise WrongValue(f"timeout must be seconds or None, not {timeout!r}")
    if timeout < 0:
        raise WrongValue(f"timeout must be 0 seconds or more, or None, not {timeout!r}")
    return inf if timeout > _FOR_EVER else timeout


async def wait_at_most(waiting: Deferred[T], seconds: float, clock: IReactorTime) -> bool:
    """Whether *waiting* fires within *seconds* (0: whether it has fired); if not, cancel it."""
    if seconds < inf:
        waiting.addTimeout(max(0.0, seconds), clock)
    try:
        await waiting
    except DeferredTimeout:
        return False
    return True


def wait_for(work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Fires when *work* is done; if it is cancelled, *work* goes on, and a failure of it is logged."""
    waiting: Deferred[T] = Deferred()

    def failed(failure: Failure) -> None:
        if waiting.called:
            _log.failure("work that nobody waits for any more has failed", failure)
        else:
            waiting.errback(failure)

    Deferred.fromCoroutine(work).addCallbacks(waiting.callback, failed)
    return waiting


class WaitingDeferreds(Generic[T]):
    """Deferreds that wait for one event; ``len()`` counts them."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[T], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """Fires when the event happens next, or fails with the reason why it never will."""
        waiting: Deferred[T] = Deferred(self._waiting.__delitem__)
        self._waiting[waiting] = None
        return waiting

    def happened(self, result: T) -> None:
        for deferred in self._all():
            deferred.callback(result)

    def failed(self, failure: Failure) -> None:
        for deferred in self._all():
            deferred.errback(failure)

    def _all(self) -> Iterator[Deferred[T]]:
        """Take off all Deferreds that wait now, and yield those that are not cancelled meanwhile."""
        waiting, self._waiting = self._waiting, {}
        for deferred in list(waiting):
            if deferred in waiting:  # if not, an earlier callback has cancelled it
                yield deferred


class Conditions:
    """Deferreds that wait, each until its own condition is true."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], Callable[[], bool]] = {}
        self._over: Failure | None = None

    def when(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Fires when *is_so* returns True, perhaps at once; fails when :meth:`stop` is called."""
        if self._over is not None:
            return fail(self._over)
        waiting: Deferred[None] = Deferred(self._waiting.__delitem__)
        self._waiting[waiting] = is_so
        self.look()
        return waiting

    def look(self) -> None:
        """Fire the Deferreds whose condition is true now."""
        for waiting in [each for each, is_so in self._waiting.items() if is_so()]:
            if self._waiting.pop(waiting, None) is not None:  # if None, a callback has cancelled it
                waiting.callback(None)

    def stop(self, failure: Failure) -> None:
        """Fail all Deferreds that wait, and all later ones."""
        self._over = failure
        while self._waiting:
            waiting, _ = self._waiting.popitem()
            waiting.errback(failure)


class Handover(Deferred[None]):
    """The Deferred of a message to one peer: fires when the transport has accepted the message.

    If no errback handles its failure, it logs one line, while other Deferreds log a traceback.
    """

    def __init__(self, canceller: Callable[[Deferred[Any]], None] | None = None) -> None:
        super().__init__(canceller)
        self._debugInfo = _OneLine()


class _OneLine(DebugInfo):
    def __del__(self) -> None:
        if self.failResult is not None:
            _log.warn("a message was not delivered: {why}", why=self.failResult.getErrorMessage())


def unreachable(why: str) -> Handover:
    """A failed Deferred, for a message that could not be sent."""
    failed = Handover()
    failed.errback(Failure(Unreachable(why)))
    return failed

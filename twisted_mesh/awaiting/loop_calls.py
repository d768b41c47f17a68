"""Calls from an asyncio loop into the reactor's thread, and back.

Contract: nothing blocks the loop.  If the future of a call is cancelled, the Deferred of the call is
cancelled, too.  If the loop is closed, results that come for it are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.logger import Logger

from twisted_mesh.threads.reactor_thread import Call, ReactorThread

T = TypeVar("T")
_log = Logger()


class _Lane:
    """Calls from one thread in another, in order; those that come before it has woken need one wake-up."""

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """:param wake: calls a function in the other thread."""
        self._wake = wake
        self._is_waking = False
        self._calls: deque[Callable[[], object]] = deque()

    def add(self, f: Callable[[], object]) -> None:
        self._calls.append(f)
        if not self._is_waking:
            self._is_waking = True
            try:
                self._wake(self._run)
            except BaseException:
                self._is_waking = False
                raise

    def _run(self) -> None:
        self._is_waking = False  # before the calls are counted: a call that comes later wakes again
        for _ in range(len(self._calls)):
            try:
                self._calls.popleft()()
            except Exception:  # the other calls are still made
                _log.failure("a call from another thread failed")


class LoopCalls:
    """Calls between one asyncio loop and the reactor's thread.

    :ivar loop_closed: is called in the reactor's thread if the loop is found to be closed.
    """

    loop_closed: Callable[[], None]

    def __init__(self, thread: ReactorThread, loop: asyncio.AbstractEventLoop) -> None:
        self.thread = thread
        self._loop = loop
        self._to_reactor = _Lane(thread.later)
        self._to_loop = _Lane(loop.call_soon_threadsafe)

    def call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Call *f* in the reactor's thread, after all earlier calls.

        :return: has the result of *f*, or of the Deferred that *f* returns.
        :raises NotRunning: the reactor has ended, or belongs to another process.
        :raises RuntimeError: the caller is not in the loop.
        """
        self.thread.check_process()  # in a fork, asyncio itself sees no loop
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this Mesh is open in another asyncio loop: use it there")
        call = _LoopCall(partial(f, *args, **kwargs), self, self._loop.create_future())
        self.thread.admit(call)
        self._to_reactor.add(call.begin)
        return call.future

    def later(self, f: Callable[..., object], *args: Any) -> None:
        """Call *f* in the reactor's thread after all earlier calls; do not wait for its result."""
        self._to_reactor.add(partial(f, *args))

    def in_loop(self, f: Callable[..., object], *args: Any) -> None:
        """Call *f* in the loop; any thread may use this."""
        try:
            self._to_loop.add(partial(f, *args))
        except RuntimeError:  # the loop is closed
            if self.thread.is_here:
                self.loop_closed()


class _LoopCall(Call):
    """A call whose result an asyncio future gets."""

    def __init__(self, f: Callable[[], Any], calls: LoopCalls, future: asyncio.Future[Any]) -> None:
        super().__init__(f)
        self._calls = calls
        self.future = future
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._calls.later(self.cancel)

    def _ended(self, result: Any, error: BaseException | None) -> None:
        self._calls.in_loop(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


async def wait_to_the_end(future: asyncio.Future[T]) -> T:
    """Wait for *future*, also if the task is cancelled meanwhile; then the task is cancelled at the end."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # the cancellation goes before an error: let asyncio not report that
        raise cancelled
    return future.result()

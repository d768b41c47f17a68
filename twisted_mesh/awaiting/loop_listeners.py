"""Listeners of events in an asyncio loop; each may be a function or a coroutine function.

Contract: listeners are called in the loop.  A coroutine that a listener returns becomes a task.  If a
listener fails, the failure is logged and emitted once, as ``failure``.  A bounded number
of events waits for the loop: later ones are dropped, which is logged and counted.  While so many coroutines
of listeners run, no further ``message`` is emitted.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from functools import partial
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.awaiting.loop_calls import LoopCalls, wait_to_the_end
from twisted_mesh.awaiting.messages import Messages
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery.listeners import Listener, Listeners, emit_one

#: At most so many events wait for a loop, and so many coroutines of listeners run (guess).
LISTENING: Final = 1000
_log = Logger()


class LoopListeners(Listeners):
    """The listeners of one aio.Mesh.

    :ivar dropped_events: how many events were dropped because the loop did not emit them in time.
    """

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        self.dropped_events = 0
        self._most = min(config.queue_limit, LISTENING)
        self._loop_calls: LoopCalls | None = None  # while the mesh is open
        self._told: deque[tuple[str, object]] = deque()  # events that wait for the loop
        self._telling = False  # whether the loop will emit the events that wait
        self._tasks: set[asyncio.Future[Any]] = set()
        self._heard: Messages | None = None  # the messages for listeners of `message`

    def messages(self) -> Messages:
        """A new iterator over the messages from now on."""
        raise NotImplementedError

    # ── events ──────────────────────────────────────────────────────────────────────

    def _tell(self, event: str, what: object) -> None:
        """Emit *event* in the loop; call this in the reactor's thread."""
        calls = self._loop_calls
        if calls is None or not self.listeners(event):
            return
        if len(self._told) >= self._most:
            if not self.dropped_events:
                _log.warn("the asyncio loop is too slow: events that find no room are dropped from now on")
            self.dropped_events += 1
            return
        self._told.append((event, what))
        if not self._telling:
            self._telling = True
            calls.in_loop(self._emit_told)

    def _emit_told(self) -> None:
        self._telling = False  # before the events are read: an event that comes later is told again
        for _ in range(len(self._told)):
            self.emit(*self._told.popleft())

    # ── messages ────────────────────────────────────────────────────────────────────

    def _hear(self) -> None:
        """Receive messages as long as the mesh is open and a listener of ``message`` is there."""
        is_heard = self._loop_calls is not None and bool(self.listeners("message"))
        if is_heard and self._heard is None:
            self._heard = self.messages()
            self._keep(asyncio.ensure_future(self._emit_messages(self._heard)), self._hear)
        elif not is_heard and self._heard is not None:
            self._heard.close()
            self._heard = None

    async def _emit_messages(self, messages: Messages) -> None:
        async for message in messages:
            if messages is not self._heard:  # the last listener was removed, and perhaps another one added
                break
            emit_one(self, "message", message)
            while len(self._tasks) > self._most:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def _add_event_handler(self, event: str, k: Listener, v: Listener) -> None:
        super()._add_event_handler(event, k, v)
        self._hear()

    def _remove_listener(self, event: str, f: Listener) -> None:
        super()._remove_listener(event, f)
        self._hear()

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Remove all listeners of *event*, or of all events."""
        super().remove_all_listeners(event)
        self._hear()

    # ── coroutines of listeners ─────────────────────────────────────────────────────

    def _returned(self, listener: Listener, result: object) -> None:
        if inspect.isawaitable(result):
            self._keep(asyncio.ensure_future(result), listener)

    def _keep(self, task: asyncio.Future[Any], listener: Listener) -> None:
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, listener, self._tells_failure))

    def _over(self, listener: Listener, told_failure: bool, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(listener, Failure(error), told_failure)

    def _event_of(self, failure: Failure) -> object:
        return failure.value

    async def _end_tasks(self) -> None:
        """Cancel the tasks of listeners, and wait until they have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await wait_to_the_end(asyncio.gather(*self._tasks, return_exceptions=True))

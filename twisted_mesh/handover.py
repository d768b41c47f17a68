"""Handing over: waiting until what was sent is no longer with its sender alone.

Contract: bytes that a transport accepted can be lost with it, so the neighbours are asked whether they have
read them.  One that has done so hands them on, and others that have them are asked for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_mesh.core import events
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.hub import Hub

CHECK: Final = 1.0  # seconds until those are asked, too, that were given the rest since (guess)


async def handed_over(hub: Hub, clock: IReactorTime, timeout: float) -> None:
    """Wait until a neighbour has read every own message so far.

    :raises NotHandedOver: after *timeout* seconds.
    """
    until = clock.seconds() + timeout

    async def in_time(is_so: Callable[[], bool]) -> bool:
        try:
            await hub.when(is_so).addTimeout(until - clock.seconds(), clock)
        except DeferredTimeout:
            return False
        return True

    if not await in_time(lambda: not hub.unsent):
        raise NotHandedOver(f"{hub.unsent} messages were taken by no neighbour")
    last = hub.node.outbox.head

    def unread() -> int:
        outbox = hub.node.outbox  # of a new run, maybe, which begins with what none had taken
        return max(0, min(last, outbox.head) - outbox.confirmed)

    checking = LoopingCall(hub.handle, events.Check())
    checking.clock = clock
    checking.start(CHECK).addErrback(lambda _: None)
    try:
        if not await in_time(lambda: not unread()):
            raise NotHandedOver(f"{unread()} messages are not known to have been read by any neighbour")
    finally:
        checking.stop()

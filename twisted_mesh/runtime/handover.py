"""Handing over: waiting until what was sent is no longer with its sender alone.

Contract: bytes that a transport accepted can be lost with it, so the neighbours are asked whether they have
read them.  One that has done so hands them on, and others that have them are asked for them.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_mesh.core import events
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.eventloop.deferreds import is_in_time
from twisted_mesh.runtime.driver import Driver

CHECK: Final = 1.0  # seconds until those are asked, too, that were given the rest since (guess)


async def handed_over(driver: Driver, clock: IReactorTime, timeout: float) -> None:
    """Wait until a neighbour has read every own message so far.

    :raises NotHandedOver: after *timeout* seconds.
    """
    until = clock.seconds() + timeout
    if not await is_in_time(driver.when(lambda: not driver.unsent), timeout, clock):
        raise NotHandedOver(f"{driver.unsent} messages were taken by no neighbour")
    last = driver.node.status().sent

    def unread() -> int:
        status = driver.node.status()  # of a new run, maybe, which begins with what none had taken
        return max(0, min(last, status.sent) - status.confirmed)

    checking = LoopingCall(driver.handle, events.Check())
    checking.clock = clock
    checking.start(CHECK).addErrback(lambda _: None)
    try:
        left = until - clock.seconds()
        if not await is_in_time(driver.when(lambda: not unread()), left, clock):
            raise NotHandedOver(f"{unread()} messages are not known to have been read by any neighbour")
    finally:
        checking.stop()

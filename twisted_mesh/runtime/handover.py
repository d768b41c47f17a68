"""Hands over: waits until a neighbour has read every own message, so that none is on this node alone.

Contract: bytes that a transport accepted can be lost with the connection.  So this node asks its neighbours
whether they have read its messages.  A neighbour that has read a message passes it on.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_mesh.core import events
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.eventloop.deferreds import wait_at_most
from twisted_mesh.grammar import counted, were
from twisted_mesh.runtime.driver import Driver

CHECK: Final = 1.0  # seconds until a neighbour is asked again which messages it has read (guess)


async def handed_over(driver: Driver, clock: IReactorTime, timeout: float) -> None:
    """Wait until a neighbour has read every own message that was sent so far.

    :raises NotHandedOver: *timeout* seconds are over.
    """
    until = clock.seconds() + timeout
    if not await wait_at_most(driver.when(lambda: not driver.unsent), timeout, clock):
        raise NotHandedOver(f"{were(driver.unsent, 'message')} taken by no neighbour")
    last = driver.node.status().sent

    def unread() -> int:
        status = driver.node.status()  # a new run of the core can have begun, with the unsent messages
        return max(0, min(last, status.sent) - status.confirmed)

    checking = LoopingCall(driver.handle, events.Check())
    checking.clock = clock
    checking.start(CHECK).addErrback(lambda _: None)
    try:
        left = until - clock.seconds()
        if not await wait_at_most(driver.when(lambda: not unread()), left, clock):
            raise NotHandedOver(f"no neighbour is known to have read {counted(unread(), 'message')}")
    finally:
        checking.stop()

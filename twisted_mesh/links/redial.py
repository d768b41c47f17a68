"""The waits until an address is dialled again.

Contract: the waits grow with each failure in a row, with jitter, up to ``redial_longest``, unless the
caller gives a pause to use in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.protocol import MeshProtocol


class Attempts(Interface):
    """Dials addresses; each Deferred fires with the connection or fails with a MeshError."""

    def link_to(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """Link to the node at *address*."""

    def exchange_with(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """Begin an exchange with the node at *address*."""


class Redial:
    """The waits between the dials of one run; *cooldown* has the nodes that must not be dialled now."""

    def __init__(
        self,
        clock: IReactorTime,
        config: MeshConfig,
        cooldown: CoolDown,
        jitter: Callable[[], float],
        pause: Callable[[], float | None] = lambda: None,
    ) -> None:
        """
        :param jitter: draws a number from 0 to 1.
        :param pause: seconds between attempts in place of the back-off, or None.
        """
        self.clock = clock
        self.cooldown = cooldown
        self._delay = backoffPolicy(
            config.redial_initial, config.redial_longest, config.redial_factor, jitter
        )
        self._jitter = jitter
        self._pause = pause

    def wait(self, failures: int, pause: float | None = None, *, at_once: bool = False) -> float:
        """Seconds until the next attempt, after this number of failures in a row.

        :param pause: seconds in place of the back-off; up to a quarter is added or taken off.
        :param at_once: do not wait, unless there is a pause.
        """
        pause = self._pause() if pause is None else pause
        if pause is not None:
            return pause * (0.75 + self._jitter() / 2)
        return 0.0 if at_once else self._delay(failures)

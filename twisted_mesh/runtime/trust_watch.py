"""Reads again the files that say who belongs to the mesh, and tells the core.

Contract: :meth:`TrustWatch.reload` is for a signal or an application.  A file that was written again is
noticed when a run begins, and otherwise within twice ``trust_interval``: it is read once it has not changed
for that interval, since a program may be in the middle of writing it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mesh.errors import TrustError
from twisted_mesh.network import Policy
from twisted_mesh.trust.policy import FilePolicy

_WARN_AGAIN: Final = 86_400.0  # seconds from one warning in the log to the next (guess)
_log = Logger()


class TrustWatch:
    """Keeps the policy of one run up to date."""

    def __init__(
        self, clock: IReactorTime, interval: float, policy: Policy, changed: Callable[[], None]
    ) -> None:
        """
        :param interval: seconds between looks at the files.
        :param changed: tells the core that the policy has changed.
        """
        self._clock = clock
        self._interval = interval
        self._policy = policy if isinstance(policy, FilePolicy) else None
        self._changed = changed
        self._next: IDelayedCall | None = None
        self._warned = -inf  # when the log was last warned

    def begin(self) -> None:
        """Look at the files now, if there are any, and from now on."""
        if self._policy is not None:
            self._look(self._policy, at_once=True)

    def reload(self) -> None:
        """Read the files again.

        :raises TrustError: a file cannot be used; what was read before stays in force.
        """
        if self._policy is not None:
            self._tell(self._policy.reload())

    def policy_taken(self) -> TrustError | None:
        """Keep the newest policy of the authority, and say that it came; return why it cannot be kept."""
        if self._policy is None:
            return None
        _log.info("{told}", told=self._policy.policy_told)
        try:
            self._policy.keep()
        except TrustError as error:
            _log.error("{error}", error=error)
            return error
        return None

    def stop(self) -> None:
        """Look at the files no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self, policy: FilePolicy, *, at_once: bool = False) -> None:
        self._next = self._clock.callLater(self._interval, self._look, policy)
        try:
            self._tell(policy.look(at_once=at_once))
        except TrustError as error:
            _log.warn("{error}; what was read before stays in force", error=error)
        if policy.some_have_ended():
            _log.info("the certificate of another node has expired")
            self._changed()
        now = self._clock.seconds()
        if (warning := policy.warning) is not None and now >= self._warned + _WARN_AGAIN:
            self._warned = now
            _log.warn("{told}", told=warning)  # trial takes a field "warning" for one of Python

    def _tell(self, has_changed: bool) -> None:
        if has_changed:
            _log.info("who belongs to the mesh was read again, and has changed")
            self._changed()

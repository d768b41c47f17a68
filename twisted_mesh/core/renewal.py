"""When this node asks for a new run, because another node has signed with its key.

Contract: a new run closes all links, so from one to the next a minute passes within one process, for
whatever reason.  If no run can begin, because the new epoch cannot be written, this node asks again after
``key_retry``, then after twice that, and so on up to ten minutes.  Until then it publishes nothing.
"""

from __future__ import annotations

from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import EpochConflict, Timer
from twisted_mesh.core.rate import backoff

NEW_RUN_PAUSE: Final = 60.0  # seconds from one new run to the next (guess)
LONGEST_RETRY: Final = 600.0  # seconds until a new run is asked for again, at most (guess)


class Renewal:
    """The new run that one run of this node asks for.

    :ivar earliest: when this run may ask for a new one.
    """

    def __init__(self, config: MeshConfig, effects: Effects) -> None:
        self._retry = config.key_retry
        self._effects = effects
        self.earliest = -inf
        self._asked = -inf  # when this run last asked for a new one
        self._above = 0  # the epoch above which a new run must begin; 0 if this run may go on
        self._tries = 0
        self._next = inf  # when to ask for the new run

    def __bool__(self) -> bool:
        """Whether this run is over, and waits for a new one to begin."""
        return self._above > 0

    def follow(self, earlier: Renewal) -> None:
        """Ask for no new run sooner than the *earlier* run, which this one follows, could have done."""
        self.earliest = max(earlier.earliest, earlier._asked + NEW_RUN_PAUSE)

    def require(self, above: int, now: float) -> None:
        """Ask for a run of an epoch *above* this one until it begins: this run is over for good."""
        if not self:
            self._above, self._next = above, max(now, self.earliest)
            self.look(now)

    def look(self, now: float) -> None:
        """Ask for the required run if that is due, and have this called again in time."""
        if self and self._next <= now:
            self.ask(self._above, now)
            self._next = now + backoff(self._retry, self._tries, LONGEST_RETRY)
            self._tries += 1
        if self:
            self._effects.set_timer(Timer.ROSTER, self._next)

    def ask(self, above: int, now: float) -> None:
        """Ask once for a run of an epoch *above* this one, at :attr:`earliest` or later."""
        self._asked = now
        self._effects.emit(EpochConflict(above))

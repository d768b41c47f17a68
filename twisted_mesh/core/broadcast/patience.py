"""Which holes are waited for beyond their time: what fills them is on its way, here or to a neighbour.

Contract: a node that is being sent some of a hole says so in its HAVE.  Neighbours with the same hole wait
on, and say so in turn.  All of that is unsigned: it puts a gap off, for ``gap_longest`` at most, and
decides nothing else.
"""

from __future__ import annotations

from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History

_HOPS_MOST: Final = 8  # nodes that such a word goes through (guess: trees are less deep)
_PART: Final = 3  # of a gap's patience: so often it is said, and so fresh a sign is (guess)


class Patience:
    """The holes of a node that somebody is about to fill."""

    def __init__(self, config: MeshConfig, history: History, repair: Repair, push: Push) -> None:
        self._patience = config.gap_patience
        self._longest = config.gap_longest
        self._history = history
        self._repair = repair
        self._push = push
        self._heard: dict[StreamId, tuple[float, int]] = {}  # of runs with a hole: when, and from how far
        self._said = 0.0

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"expected_runs": len(self._heard)}

    def heard(self, run: StreamId, hops: int, now: float) -> None:
        """A neighbour says that what it lacks of *run* is on its way, *hops* nodes from here."""
        stream = self._history.get(run)
        if stream is not None and stream.has_hole and hops <= _HOPS_MOST:
            self._heard[run] = now, hops

    def put_off(self, now: float) -> None:
        """Wait on for what is coming."""
        holes = dict(self._history.holes())
        self._heard = {run: heard for run, heard in self._heard.items() if run in holes}
        for run, since in holes.items():
            signs = [self._repair.last_sign(run, now), self._heard.get(run, (None, 0))[0]]
            sign = max((at for at in signs if at is not None), default=None)
            if sign is not None and since + self._longest > now:
                self._history.wait_on(run, min(sign, since + self._longest - self._patience))

    def tick(self, now: float) -> None:
        """Tell the neighbours what is coming, if it is time to."""
        if now < self._said + self._patience / _PART:
            return
        self._said = now
        coming = {}
        for run, since in self._history.holes():
            hops = self._hops(run, now)
            if since + self._patience / _PART <= now and 0 < hops <= _HOPS_MOST:
                coming[run] = hops
        self._push.announce_coming(coming)

    def _hops(self, run: StreamId, now: float) -> int:
        """How many nodes from a neighbour the one is that is being sent some of *run*; 0: none is known."""
        sign = self._repair.last_sign(run, now)
        fresh = now - self._patience / _PART
        if sign is not None and sign >= fresh:
            return 1
        at, hops = self._heard.get(run, (0.0, 0))
        return hops + 1 if hops and at >= fresh else 0

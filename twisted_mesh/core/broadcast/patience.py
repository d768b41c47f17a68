"""Which holes are kept open longer, because their messages are on their way here or to a neighbour.

Contract: a node that is being sent some messages of a hole says so in its HAVE, as *coming* 1.  A
neighbour with the same hole waits longer, and says so in turn, with *coming* one higher.  These claims
are unsigned.  They delay only the time when a hole is given up, by ``gap_longest`` at most.
"""

from __future__ import annotations

from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History

_HOPS_MOST: Final = 8  # hops after which a claim counts no more (guess: trees are less deep)
_PART: Final = 3  # claims are sent 3 times in gap_patience, and count for a third of it (guess)


class Patience:
    """The holes of a node that are about to be filled."""

    def __init__(self, config: MeshConfig, history: History, repair: Repair, push: Push) -> None:
        self._patience, self._longest = config.gap_patience, config.gap_longest
        self._history, self._repair, self._push = history, repair, push
        self._heard: dict[StreamId, tuple[float, int]] = {}  # when a claim on a run came, and its *coming*
        self._told_at = 0.0

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        return {"expected_runs": len(self._heard)}

    def heard(self, run: StreamId, coming: int, now: float) -> None:
        """Note that a neighbour says that missing messages of *run* are on their way to it."""
        if self._history.has_hole(run) and coming <= _HOPS_MOST:
            self._heard[run] = now, coming

    def put_off(self, now: float) -> None:
        """Have the history wait for the holes that are about to be filled."""
        holes = dict(self._history.holes())
        self._heard = {run: heard for run, heard in self._heard.items() if run in holes}
        for run, since in holes.items():
            self._put_off(run, since, self._repair.last_sign(run, now), now)

    def _put_off(self, run: StreamId, since: float, own: float | None, now: float) -> None:
        """Have the history wait for the hole of *run*, if it is about to be filled.

        :param own: the time of the last sign of it that this node knows.
        """
        signs = [own, self._heard.get(run, (None, 0))[0]]
        sign = max((at for at in signs if at is not None), default=None)
        if sign is not None and since + self._longest > now:
            self._history.wait_on(run, min(sign, since + self._longest - self._patience))

    def tick(self, now: float) -> None:
        """Tell the neighbours which missing messages are on their way, if that is due.

        Some signs are there for a while and then gone, so they are looked for now and then.
        """
        if now < self._told_at + self._patience / _PART:
            return
        self._told_at = now
        coming = {}
        for run, since in self._history.holes():
            sign = self._repair.last_sign(run, now)
            self._put_off(run, since, sign, now)
            hops = self._coming(run, sign, now)
            if since + self._patience / _PART <= now and 0 < hops <= _HOPS_MOST:
                coming[run] = hops
        self._push.announce_coming(coming)

    def _coming(self, run: StreamId, sign: float | None, now: float) -> int:
        """The *coming* of this node's HAVE of *run*; 0 if no messages are known to be on their way."""
        fresh = now - self._patience / _PART
        if sign is not None and sign >= fresh:
            return 1
        at, coming = self._heard.get(run, (0.0, 0))
        return coming + 1 if coming and at >= fresh else 0

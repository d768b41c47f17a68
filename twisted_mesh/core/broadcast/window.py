"""How many answers to WANTs may be expected at a time, over all links, and the runs that wait.

Contract: runs of which a signed batch has come, or a base was told, are *verified*.  They have a window
of their own, so that they never wait for runs that a claim has made up.  The links that would be asked
take turns, since one link can claim thousands of runs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.core.events import StreamId

Turns = OrderedDict[int, OrderedDict[StreamId, None]]

_AT_ONCE: Final = 2  # runs that may always be asked for, so that one silent link does not stop all


class Window:
    """The answers that are expected, and the runs that wait; ``len()`` counts the runs.

    :ivar bytes: the most bytes that may be expected at a time.
    """

    def __init__(self, answer_bytes: int) -> None:
        """:param answer_bytes: the value of *bytes* as long as no line is slow."""
        self._answer_bytes = answer_bytes
        self.bytes: float = answer_bytes
        self._weight = float(answer_bytes)  # bytes of an answer: a moving average
        self._asked = {True: 0, False: 0}  # answers that are expected, by whether the run is verified
        # Waiting runs, by whether they are verified and by link; the link whose turn it is comes first.
        self._waiting: dict[bool, Turns] = {True: OrderedDict(), False: OrderedDict()}
        self._place: dict[StreamId, tuple[bool, int]] = {}  # where in _waiting each run is

    def __len__(self) -> int:
        return len(self._place)

    def is_open(self, verified: bool) -> bool:
        """Whether one more run may be asked for.

        All answers share this node's line.  If more is asked for than the line brings in time, links
        seem silent, and others are asked for the same messages.
        """
        asked = self._asked[verified]
        return asked < _AT_ONCE or asked * self._weight < self.bytes

    def narrow(self, size: float) -> None:
        """Expect at most *size* bytes at a time: so many come in time."""
        self.bytes = min(size, self._answer_bytes)

    def asked(self, verified: bool) -> None:
        """Expect one more answer."""
        self._asked[verified] += 1

    def released(self, verified: bool) -> None:
        """Expect one answer less."""
        self._asked[verified] -= 1

    def answered(self, size: int) -> None:
        """Note that an answer brought *size* bytes."""
        self._weight += (size - self._weight) / 2

    def wait(self, run: StreamId, verified: bool, link: int) -> None:
        """Let *run*, which *link* would be asked for, wait for its turn."""
        if self._place.get(run) != (verified, link):
            self.drop(run)
            self._place[run] = verified, link
            self._waiting[verified].setdefault(link, OrderedDict())[run] = None

    def is_waiting(self, run: StreamId) -> bool:
        """Whether *run* waits for its turn."""
        return run in self._place

    def is_waited_for(self, verified: bool) -> bool:
        """Whether any run waits, so that a new one has to wait, too."""
        return bool(self._waiting[verified])

    def next_run(self) -> StreamId | None:
        """The run whose turn it is, if the window is open; it waits no more."""
        for verified, turns in self._waiting.items():
            if turns and self.is_open(verified):
                link, runs = next(iter(turns.items()))
                turns.move_to_end(link)
                run = next(iter(runs))
                self.drop(run)
                return run
        return None

    def drop(self, run: StreamId) -> None:
        """Let *run* wait no more."""
        if (place := self._place.pop(run, None)) is not None:
            verified, link = place
            runs = self._waiting[verified][link]
            del runs[run]
            if not runs:
                del self._waiting[verified][link]

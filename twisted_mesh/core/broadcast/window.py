"""How much may be asked for at a time: the window of WANTs over all links, and the runs that wait for it.

Contract: runs of which a signed batch has come, or a base was told, are *verified* and have a window of
their own, so that runs made up by a claim keep none of them waiting.  Those that wait take turns by the
link they would be asked of: one link can claim runs by the thousand.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.core.events import StreamId

_AT_ONCE: Final = 2  # streams that may always be asked for: one link that is silent holds up none


class Window:
    """What is asked for, and what waits for that; ``len()`` counts the runs that wait.

    :ivar bytes: that may be expected at a time.
    """

    def __init__(self, answer_bytes: int) -> None:
        """:param answer_bytes: that may be expected at a time."""
        self._answer_bytes = answer_bytes
        self.bytes: float = answer_bytes
        self._weight = float(answer_bytes)  # of an answer, as answers were lately
        self._asked = {True: 0, False: 0}  # by whether they are verified
        # Likewise by link, the one whose turn is next first.
        self._waiting: dict[bool, OrderedDict[int, OrderedDict[StreamId, None]]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }
        self._place: dict[StreamId, tuple[bool, int]] = {}  # of each run that waits: where

    def __len__(self) -> int:
        return len(self._place)

    def has_room(self, verified: bool) -> bool:
        """Whether what is asked for leaves room for more.

        All answers share this node's line: asked for more than comes through it in time, links would
        seem silent that are not, and others be asked for the same.
        """
        asked = self._asked[verified]
        return asked < _AT_ONCE or asked * self._weight < self.bytes

    def narrow(self, size: float) -> None:
        """No more than *size* bytes come in time, nor more than always."""
        self.bytes = min(size, self._answer_bytes)

    def asked(self, verified: bool) -> None:
        """One more is asked for."""
        self._asked[verified] += 1

    def released(self, verified: bool) -> None:
        """One that was is so no more."""
        self._asked[verified] -= 1

    def answered(self, size: int) -> None:
        """An answer brought *size* bytes."""
        self._weight += (size - self._weight) / 2

    def wait(self, run: StreamId, verified: bool, link: int) -> None:
        """*run*, which *link* would be asked for, waits until there is room."""
        if self._place.get(run) != (verified, link):
            self.drop(run)
            self._place[run] = verified, link
            self._waiting[verified].setdefault(link, OrderedDict())[run] = None

    def is_waiting(self, run: StreamId) -> bool:
        """Whether *run* waits until there is room."""
        return run in self._place

    def is_waited_for(self, verified: bool) -> bool:
        """Whether some run waits, and comes first."""
        return bool(self._waiting[verified])

    def next_run(self) -> StreamId | None:
        """One that waited and may be asked for now: it waits no more."""
        for verified, turns in self._waiting.items():
            if turns and self.has_room(verified):
                link, runs = next(iter(turns.items()))
                turns.move_to_end(link)
                run = next(iter(runs))
                self.drop(run)
                return run
        return None

    def drop(self, run: StreamId) -> None:
        """*run* waits no more."""
        if (place := self._place.pop(run, None)) is not None:
            verified, link = place
            runs = self._waiting[verified][link]
            del runs[run]
            if not runs:
                del self._waiting[verified][link]

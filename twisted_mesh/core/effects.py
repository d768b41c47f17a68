"""What a node answers to an event: its effects, collected from the parts that bring them about.

Contract: a node has one :class:`Effects`, and hands it to the parts that send, deliver, tell the outside or
want to be called again.  Effects are carried out in the order in which they were put in.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mesh.core.events import (
    Close,
    Deliver,
    Dial,
    Effect,
    Emit,
    Happening,
    Send,
    SetTimer,
    StreamId,
    Timer,
)
from twisted_mesh.core.link import Link
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.membership import Contact, Purpose


class Effects:
    """The effects of the event that a node handles, and its timers."""

    def __init__(self, run: StreamId) -> None:
        """
        :param run: the own one: of its messages a link remembers which the transport has not taken yet.
        """
        self._run = run
        self._effects: list[Effect] = []
        self._ending: list[tuple[Link, Reason, str]] = []
        self._timers: dict[Timer, float] = {}

    def begin(self) -> list[Effect]:
        """Begin with another event; what its effects are put into."""
        self._effects = []
        return self._effects

    def send(self, links: Iterable[Link], frame: codec.Signed | codec.Plain) -> None:
        """Send *frame* over each of *links*, if there are any."""
        size = codec.size(frame)
        mark = 0
        if isinstance(frame, SignedBatch) and (frame.batch.origin, frame.batch.epoch) == self._run:
            mark = frame.batch.last
        numbers = []
        for link in links:
            flow = link.flow
            flow.sent += size
            numbers.append(link.number)
            if mark:
                flow.own_marks.append((flow.sent, mark))
        if numbers:
            self._effects.append(Send(numbers, frame, size))

    def deliver(self, delivery: Deliver) -> None:
        """Hand messages to the application."""
        self._effects.append(delivery)

    def emit(self, happening: Happening) -> None:
        """Tell the outside what has happened."""
        self._effects.append(Emit(happening))

    def dial(self, contact: Contact, purpose: Purpose) -> None:
        """Dial *contact* once."""
        self._effects.append(Dial(contact, purpose))

    def close(self, number: int, reason: Reason, detail: str) -> None:
        """Close a link that is fed no more."""
        self._effects.append(Close(number, reason, detail))

    def end(self, link: Link, reason: Reason, detail: str) -> None:
        """End *link*: the node feeds it no more and closes it, as soon as who says so has done its part."""
        self._ending.append((link, reason, detail))

    def take_ending(self) -> list[tuple[Link, Reason, str]]:
        """The links that are to end, of which each is told once."""
        ending, self._ending = self._ending, []
        return ending

    def set_timer(self, timer: Timer, at: float) -> None:
        """Have *timer* fire at the time *at*, unless it fires sooner."""
        if (running := self._timers.get(timer)) is None or at < running:
            self._timers[timer] = at
            self._effects.append(SetTimer(timer, at))

    def fired(self, timer: Timer, now: float) -> float:
        """*timer* has fired; seconds by which that is late."""
        late = self.late(timer, now)
        self._timers.pop(timer, None)
        return late

    def is_set(self, timer: Timer) -> bool:
        """Whether *timer* will fire."""
        return timer in self._timers

    def late(self, timer: Timer, now: float) -> float:
        """Seconds since *timer* should have fired: this node was held up."""
        return max(0.0, now - self._timers.get(timer, now))

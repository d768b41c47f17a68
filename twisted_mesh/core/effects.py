"""The effects of one event, collected from the parts of a node, and the lines that carry its frames.

Contract: a node has one :class:`Effects`, and gives it to each part that sends frames, delivers messages,
reports to the driver, or sets a timer.  The driver carries out the effects in the order in which they were
added.

:class:`Lines` knows whether peers have read what they were sent.  The line to a peer is *late* if more
bytes are unread than the peer reads in a second.  A node that repeats a frame cannot know that the frame
still waits for a slow line; a node before that line can.  So over a late line no copy is sent of a frame
that may be unread.  Otherwise repeats alone would fill the line: each frame would wait longer than the one
before, and so be repeated more often.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.core import events
from twisted_mesh.core.events import Effect, Happening, StreamId, Timer
from twisted_mesh.core.link import READ_SO_FAR, Link
from twisted_mesh.core.meter import FLOOR, MEASURED
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Contact, Purpose

_SECONDS: Final = 1.0  # seconds in which, with a round trip, a peer that is not late reads all (guess)


@dataclass(eq=False)
class Effects:
    """Collects the effects of the event that a node handles, and knows the timers that run."""

    _run: StreamId
    has_published: bool = False  # whether a message of this run was given to a link
    _effects: list[Effect] = field(default_factory=list)
    _ending: list[tuple[Link, Reason, str]] = field(default_factory=list)
    _timers: dict[Timer, float] = field(default_factory=dict)

    def begin(self) -> list[Effect]:
        """Begin with another event; return the list that will hold its effects."""
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
                self.has_published = True
                flow.own_marks.append((flow.sent, mark))
        if numbers:
            self._effects.append(events.Send(numbers, frame, size))

    def deliver(self, delivery: events.Deliver) -> None:
        """Hand messages to the application."""
        self._effects.append(delivery)

    def deliver_directs(self, messages: list[events.Deliver]) -> None:
        """Hand direct messages of one run to the application."""
        self._effects.append(events.DeliverDirects(messages))

    def emit(self, happening: Happening) -> None:
        """Report *happening* to the driver."""
        self._effects.append(events.Emit(happening))

    def dial(self, contact: Contact, purpose: Purpose) -> None:
        """Dial *contact* once."""
        self._effects.append(events.Dial(contact, purpose))

    def close(self, number: int, reason: Reason, detail: str) -> None:
        """Close the connection of a link that is no longer fed."""
        self._effects.append(events.Close(number, reason, detail))

    def end(self, link: Link, reason: Reason, detail: str) -> None:
        """End *link* as soon as the part that calls this has returned."""
        self._ending.append((link, reason, detail))

    def take_ending(self) -> list[tuple[Link, Reason, str]]:
        """The links that :meth:`end` named since the last call."""
        ending, self._ending = self._ending, []
        return ending

    def set_timer(self, timer: Timer, at: float) -> None:
        """Have *timer* fire at the time *at*, unless it fires sooner."""
        if (running := self._timers.get(timer)) is None or at < running:
            self._timers[timer] = at
            self._effects.append(events.SetTimer(timer, at))

    def fired(self, timer: Timer, now: float) -> float:
        """Note that *timer* has fired; return the seconds by which it was late."""
        late = self.late(timer, now)
        self._timers.pop(timer, None)
        return late

    def is_set(self, timer: Timer) -> bool:
        """Whether *timer* will fire."""
        return timer in self._timers

    def late(self, timer: Timer, now: float) -> float:
        """The seconds since *timer* should have fired, for which this node was held up."""
        return max(0.0, now - self._timers.get(timer, now))


@dataclass(eq=False)
class Lines:
    """The lines of a node's links."""

    _effects: Effects

    def measure(self, link: Link, now: float, least: int = MEASURED) -> None:
        """Have the peer say when it has read all frames, if *least* bytes or more are unread."""
        flow = link.flow
        if not link.closing and flow.meter.sent(flow.sent, now, least):
            self._effects.send((link,), Ping(READ_SO_FAR))

    def is_read(self, link: Link, most: int, now: float) -> bool:
        """Whether at most *most* bytes are unread; if not, a PING asks when the peer has read them."""
        if link.flow.unread <= most:
            return True
        self.measure(link, now, least=1)
        return False

    def is_late(self, link: Link, now: float) -> bool:
        """Whether the peer is late to read what it was sent."""
        return not self.is_read(link, link.flow.meter.bytes_in(_SECONDS, FLOOR), now)

    def has_no_room(
        self, link: Link, frame: Hashable, now: float, author: bytes = b"", size: int = 0
    ) -> bool:
        """Whether a late line has no room for *frame*; if it has, *frame* counts as sent over *link* now.

        It has none for a copy, nor if 2 KiB of the same *author* wait: one member could fill the line.

        :param frame: names the frame; a copy has the same name; *size*: its bytes.
        """
        return self.is_late(link, now) and not link.flow.note_once(frame, author, size)

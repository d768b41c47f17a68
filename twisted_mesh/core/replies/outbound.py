"""The direct messages that this node sends, until they are acknowledged or given up.

Contract: the messages for each run of each destination have numbers, and no number is used twice.  A
message is repeated until the destination's acknowledgement comes, or until ``direct_timeout``, each time
over the best link and over another one, too.  Where acknowledgements take long, it is repeated more rarely,
and no copy goes over a late line that still carries the message.

New messages leave together, at the end of the reactor's turn or when they are many: those for one
destination share a DIRECT, one seal and one signature, as far as they fit in.  A DIRECT has the
acknowledgement in it that its destination is owed.  It is sealed with the key that its destination's newest
record names, each time it is sent.  While no such record is known, nothing of its messages is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.authors import UNMET, Authors
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.rate import backoff
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.core.replies.senders import WINDOW, Senders
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.fields import MessageId
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.replies import (
    MAX_DIRECTS,
    MAX_TOGETHER,
    MAX_TRIES,
    Direct,
    DirectAck,
    DirectKey,
    SealedMessage,
    SealedText,
    sealing_context,
)

_AROUND: Final = 500  # bytes of memory that a waiting message needs beside its body (guess)
_REPEATS: Final = 8  # times that a message is sent at least, however long acknowledgements take (guess)
_ENDED: Final = "it has left"


@dataclass(eq=False)
class Sent:
    """One message that waits to be acknowledged."""

    token: int
    body: bytes
    answers: MessageId | None  # the message that it answers
    at: float  # when it was to be sent
    until: float  # when it is given up
    tries: int = 0  # how often it was sent
    again: float = field(init=False)  # when it is sent again

    def __post_init__(self) -> None:
        self.size = len(self.body) + _AROUND  # the bytes that count against ``direct_bytes``
        self.again = self.until  # it leaves at the end of the turn


@dataclass(eq=False, slots=True)
class Outgoing:
    """The messages to one run of one node.

    :ivar unsent: messages with this number, and higher ones, leave at the end of the turn.
    :ivar took: the seconds that acknowledgements took lately.
    :ivar wants_record: whether a message could not be sealed, and waits for the node's next record.
    """

    epoch: int  # 0 if none is known
    next: int
    unsent: int
    took: float = 0.0
    wants_record: bool = False
    waiting: OrderedDict[int, Sent] = field(default_factory=OrderedDict)  # by number


@dataclass(eq=False)
class Outbound:
    """The direct messages that this node sends.

    :ivar wake: when to call :meth:`repeat` next; inf for never.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _authors: Authors  # the authors that this node has met
    _routes: Routes
    _senders: Senders  # what this node has got of each destination
    _effects: Effects
    _outgoing: dict[bytes, Outgoing] = field(default_factory=dict)
    _leaving: dict[bytes, None] = field(default_factory=dict)  # to whom messages leave this turn
    _bytes: int = 0  # the bytes of all messages that wait to be acknowledged
    _highest: int = 0  # the highest number given: a forgotten destination may remember lower ones
    wake: float = inf

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self._lines = Lines(self._effects)

    def queue(self, event: events.SendDirects, now: float) -> None:
        """Take in messages, which leave at the end of the turn."""
        to: dict[bytes, list[events.SendDirect]] = {}
        for message in event.messages:
            to.setdefault(message.destination, []).append(message)
        for destination, messages in to.items():
            epoch = self._epoch_of(destination)
            if not epoch and self._authors.introducer(destination, now) == UNMET:
                self._end([one.token for one in messages], "this node has never heard of it")
            elif self._has_ended(destination):
                self._end([one.token for one in messages], _ENDED)
            else:
                self._queue(destination, epoch, messages, now)

    def _queue(self, destination: bytes, epoch: int, messages: list[events.SendDirect], now: float) -> None:
        """Give numbers to the *messages* for *destination*, as many as there is room for."""
        config = self._config
        most, until = min(config.direct_window, WINDOW), now + config.direct_timeout
        outgoing = self._outgoing.get(destination)
        refused = []
        for message in messages:
            sent = Sent(message.token, message.body, message.answers, now, until)
            if (
                (outgoing is not None and len(outgoing.waiting) >= most)
                or self._bytes + sent.size > config.direct_bytes
                or (outgoing is None and not self._has_room())
            ):
                refused.append(message.token)
                continue
            if outgoing is None:
                first = self._highest + 1
                outgoing = self._outgoing[destination] = Outgoing(epoch, first, first)
            self._bytes += sent.size
            outgoing.waiting[outgoing.next] = sent
            outgoing.next += 1
        if outgoing is not None:
            self._highest = max(self._highest, outgoing.next - 1)
            self._leaving[destination] = None
        if refused:
            self._end(refused, "too many direct messages wait to be acknowledged")

    def link_up(self, origin: bytes, now: float) -> None:
        """Send the messages that wait for *origin* at the end of the turn, since a link to it is up."""
        if (outgoing := self._outgoing.get(origin)) is not None and outgoing.waiting:
            for sent in outgoing.waiting.values():
                sent.tries = 0
            outgoing.unsent = next(iter(outgoing.waiting))
            self._leaving[origin] = None
            self._effects.set_timer(Timer.TURN, now)

    def leaves(self, origin: bytes, now: float) -> None:
        """Shorten the wait: *origin* leaves, and will not return, since its key is for one run."""
        outgoing = self._outgoing.get(origin)
        for sent in () if outgoing is None else outgoing.waiting.values():
            sent.until = min(sent.until, now + self._config.farewell_timeout)
            sent.again = min(sent.again, sent.until)
            self.wake = min(self.wake, sent.again)

    def _has_ended(self, destination: bytes) -> bool:
        author = self._roster.get(destination)
        return author is not None and author.has_ended

    def _epoch_of(self, destination: bytes) -> int:
        """The newest known epoch of a node; 0 if none is known."""
        link = self._routes.links.way_to(destination)
        epoch = 0 if link is None else link.peer.epoch
        return max(epoch, self._roster.rank(destination)[0])

    def _leave(self, destination: bytes, outgoing: Outgoing, numbers: list[int], now: float) -> None:
        """Send the messages with these *numbers*."""
        if (epoch := self._epoch_of(destination)) > outgoing.epoch:
            self._begin_anew(destination, outgoing, epoch, now)
            return
        config = self._config
        least = min(2 * outgoing.took, config.direct_timeout / _REPEATS)
        for some in _frames(outgoing, numbers):
            messages = [outgoing.waiting[number] for number in some]
            self._leave_together(destination, outgoing, some, messages, now)
            tries = messages[0].tries + 1
            wait = backoff(config.direct_repeat, tries - 1, config.direct_repeat_longest)
            again = now + max(wait, least)
            for sent in messages:
                sent.tries = tries
                sent.again = again if again < sent.until else sent.until
            self.wake = min(self.wake, messages[0].again, messages[-1].again)

    def _leave_together(
        self, destination: bytes, outgoing: Outgoing, numbers: list[int], messages: list[Sent], now: float
    ) -> None:
        """Send the *messages* with these *numbers* in one DIRECT."""
        first, oldest = messages[0], next(iter(outgoing.waiting))
        ends = (*self._own, destination, outgoing.epoch, numbers[0], len(numbers))
        sealed = self._sealed(ends, messages)
        outgoing.wants_record = sealed is None
        if sealed is None:
            if numbers[0] != oldest or not outgoing.epoch:
                return
            ends = (*ends[:-1], 1)  # an empty one asks for a record
        acknowledged = self._senders.head(destination, outgoing.epoch)
        owed = self._senders.owed.get(destination, {})
        for link, tries in self._ways(destination, first.tries):
            if self._lines.has_no_room(link, (Direct, *ends, sealed is None), now):
                continue
            direct = Direct(*ends, oldest, tries, acknowledged, sealed or b"")
            self._effects.send((link,), self._signer.signed(direct))
            ack = owed.get(link.number)
            if ack is not None and ack.epoch == outgoing.epoch:
                del owed[link.number]

    def _sealed(self, ends: tuple[bytes, int, bytes, int, int, int], messages: list[Sent]) -> bytes | None:
        """The sealed text of the *messages* from *ends*; None if no usable key of that run is known."""
        author = self._roster.get(ends[2])
        if author is None or author.presence.epoch != ends[3]:
            return None
        text = SealedText([SealedMessage(sent.body, sent.token, sent.answers) for sent in messages])
        key = author.presence.sealing_key
        return self._local_node.sealing.encrypt(text.pack(), key, sealing_context(*ends))

    def recorded(self, presence: Presence, now: float) -> None:
        """Take in a node's newest record: send at once the messages that waited for it."""
        outgoing = self._outgoing.get(presence.origin)
        if outgoing is not None and outgoing.wants_record:
            self.link_up(presence.origin, now)

    def _ways(self, destination: bytes, tries: int) -> Iterator[tuple[Link, int]]:
        """The links for a message sent *tries* times before, each with the tries to write into its copy.

        The first is the best link; a message that was sent before goes over a second link, too.
        """
        if not tries:
            if (best := self._routes.best_to(destination)) is not None:
                yield best, 0
        elif links := list(self._routes.all_to(destination)):
            yield links[0], 0
            yield links[tries % len(links)], min(tries, MAX_TRIES)

    def _begin_anew(self, destination: bytes, outgoing: Outgoing, epoch: int, now: float) -> None:
        """The destination has a new run: send it, under new numbers, all messages not acknowledged yet."""
        first = self._highest + 1
        fresh = self._outgoing[destination] = Outgoing(epoch, first, first)
        for sent in outgoing.waiting.values():
            sent.tries = 0
            fresh.waiting[fresh.next] = sent
            fresh.next += 1
        self._highest = fresh.next - 1
        fresh.unsent = fresh.next
        self._leave(destination, fresh, list(fresh.waiting), now)

    def _has_room(self) -> bool:
        """Make room for one more destination: forget one for which no message waits, if any."""
        if len(self._outgoing) < self._config.direct_senders:
            return True
        idle = next((one for one, outgoing in self._outgoing.items() if not outgoing.waiting), None)
        if idle is None:
            return False
        del self._outgoing[idle]
        return True

    def leave(self, now: float) -> None:
        """Send the new messages, since the turn ends."""
        leaving, self._leaving = self._leaving, {}
        for destination in leaving:
            if (outgoing := self._outgoing.get(destination)) is not None:
                numbers = [at for at in range(outgoing.unsent, outgoing.next) if at in outgoing.waiting]
                outgoing.unsent = outgoing.next
                if numbers:
                    self._leave(destination, outgoing, numbers, now)

    def acknowledged(self, frame: Direct | DirectAck, number: int, hops: int, now: float) -> bool:
        """End the messages up to *number*, which the author of *frame* has; return whether any waited."""
        if isinstance(frame, Direct):
            theirs, mine = (frame.origin, frame.epoch), (frame.destination, frame.destination_epoch)
        else:
            theirs, mine = (frame.destination, frame.destination_epoch), (frame.origin, frame.epoch)
        outgoing = self._outgoing.get(theirs[0])
        if outgoing is None or mine != self._own or theirs[1] != outgoing.epoch:
            return False
        waiting, tokens = outgoing.waiting, []
        while waiting and next(iter(waiting)) <= number < outgoing.next:
            _, sent = waiting.popitem(last=False)
            self._bytes -= sent.size
            outgoing.took = (outgoing.took + now - sent.at) / 2
            tokens.append(sent.token)
        if tokens:
            self._effects.emit(events.DirectsEnded(tokens, None, hops))
        return bool(tokens)

    def is_answer(self, answer: DirectAck | DirectKey) -> bool:
        """Whether *answer* is about a message that waits to be acknowledged."""
        outgoing = self._outgoing.get(answer.destination)
        if outgoing is None or (answer.origin, answer.epoch) != self._own:
            return False
        return answer.destination_epoch == outgoing.epoch and answer.number in outgoing.waiting

    def repeat(self, now: float) -> None:
        """Repeat messages that are due, and give up those whose time is over."""
        for destination, outgoing in list(self._outgoing.items()):
            due = []
            for number, sent in list(outgoing.waiting.items()):
                if sent.until <= now:
                    del outgoing.waiting[number]
                    self._bytes -= sent.size
                    self._end([sent.token], self._why(destination))
                elif sent.again <= now:
                    due.append(number)
            if due:
                self._leave(destination, outgoing, due, now)
        times = [sent.again for out in self._outgoing.values() for sent in out.waiting.values()]
        self.wake = min(times, default=inf)

    def _why(self, destination: bytes) -> str:
        if self._has_ended(destination):
            return _ENDED
        seconds = self._config.direct_timeout
        if self._outgoing[destination].wants_record:
            return f"no record with a key of its run came in {seconds:g} s: nothing could be sealed"
        if not any(link.up for link in self._routes.links.fed):
            return f"this node has no link; nobody acknowledged it in {seconds:g} s"
        author = self._roster.get(destination)
        state = "" if author is None else f"; it is {author.state.value} as far as this node knows"
        return f"it was not acknowledged in {seconds:g} s{state}"

    def _end(self, tokens: Sequence[int], why: str) -> None:
        self._effects.emit(events.DirectsEnded(tokens, why))

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "direct_destinations": len(self._outgoing),
            "direct_waiting": sum(len(outgoing.waiting) for outgoing in self._outgoing.values()),
            "direct_bytes": self._bytes,
        }

    @property
    def _own(self) -> tuple[bytes, int]:
        return self._local_node.origin, self._local_node.epoch


def _frames(outgoing: Outgoing, numbers: list[int]) -> Iterator[list[int]]:
    """Cut *numbers*, which rise, into those whose messages share a DIRECT."""
    together: list[int] = []
    size = 0
    for number in numbers:
        sent, before = outgoing.waiting[number], together[-1] if together else 0
        size += len(sent.body)
        if together and (
            number != before + 1
            or size > MAX_TOGETHER
            or len(together) == MAX_DIRECTS
            or sent.tries != outgoing.waiting[before].tries
        ):
            yield together
            together, size = [], len(sent.body)
        together.append(number)
    yield together

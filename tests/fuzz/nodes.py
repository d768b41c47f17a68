"""A node between two adversaries, which send any bytes, and an honest neighbour.

Contract: a :class:`Meeting` has no randomness but its bytes.  It raises AssertionError if the honest link
is closed, if a table of an honest node is over its limit, or if a message is delivered twice or out of
order.  Signatures are a stand-in: those of the two honest nodes are checked, and any other is right if it
does not begin with a zero, since a fuzzer can sign nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace as changed
from itertools import islice
from random import Random
from typing import Final, assert_never

from msgspec.structs import replace

from tests.core.network import entries, local_node, origin_of, peer, signature_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.simulation.invariants.membership import limits
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Snapshot
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.membership import Purpose, Roster

#: Small limits, so that few bytes reach them, and few timers; no link is closed because it is silent.
CONFIG: Final = MeshConfig(
    ping_after=1e6,
    dead_after=2e6,
    gap_patience=6.0,
    gap_longest=12.0,
    overlay_interval=5.0,
    members_limit=8,
    authors_burst=8,
    authors_a_minute=60.0,
    claims_limit=16,
    claims_in_all=32,
    open_streams=8,
    closed_streams=16,
    ended_limit=16,
    floors_limit=16,
    exchanges_limit=2,
    remembered_contacts=4,
    direct_senders=16,
    history_bytes=8000,
    waiting_bytes=3000,
    history_seconds=60.0,
    presence_interval=10.0,
    log_hosts=4,
)
HONEST: Final = {origin_of("me"), origin_of("anna")}
HOSTILE: Final = ("bert", "cleo")  # the peers of links 1 and 2
_FRIEND: Final = 3  # the link with the honest neighbour
_TIMERS: Final = 1000  # that may be due in one step: more set each other again and again
STEP_HEAD: Final = 3  # bytes before the payload of a frame
_STEPS: Final = 40  # of one meeting
_REST: Final = 8.0  # seconds behind the last step: longer than gap_patience


def verify(origin: bytes, signature: bytes, text: bytes) -> bool:
    """Whether a signature of *origin* counts as right."""
    if origin in HONEST:
        return signature == signature_of(origin, text)
    return signature[:1] != b"\0"


def steps(data: bytes) -> Iterator[bytes]:
    """The steps in *data*, by their first bytes.

    Below 0x80, the adversary of link ``1 + (byte & 1)`` sends a frame: two bytes with the length of its
    payload and the payload follow, as far as there are bytes.  Up to 0xBF time passes, up to 0xCF the node
    publishes a message, and up to 0xDF its honest neighbour.  Up to 0xEF an adversary links again.  From
    there on an adversary repeats a frame that the node has sent to one of them.
    """
    at = 0
    while at < len(data):
        length = STEP_HEAD + int.from_bytes(data[at + 1 : at + STEP_HEAD], "big") if data[at] < 0x80 else 1
        yield data[at : at + length]
        at += length


class Party:
    """An honest node and its timers.

    :ivar outbox: the frames that it has sent over the honest link, and that have not come.
    :ivar heard: the last payloads that it has sent over other links.
    """

    def __init__(self, name: str, config: MeshConfig) -> None:
        me = replace(
            local_node(name, verify=verify), profile=Profile(overlay=True), address=("192.0.2.1", 4444)
        )
        self.config = config
        self.node = Node(me, config, Random(1))
        self.now = 100.0
        self.timers: dict[Timer, float] = {}
        self.outbox: deque[codec.Frame] = deque()
        self.heard: deque[bytes] = deque(maxlen=8)
        self.links: dict[int, int] = {}  # by number: the bytes that were ever sent
        self._last: dict[StreamId, int] = {}
        self._origin = me.origin

    def open(
        self, number: int, name: str, *, outgoing: bool, purpose: Purpose = Purpose.JOIN, said: bool = False
    ) -> None:
        """Open a link with *name*."""
        self.links[number] = 0
        who = replace(peer(name, settled=said), address=("192.0.2.9", number), purpose=purpose)
        host = f"192.0.2.{number % 250}"
        self.handle(events.LinkOpened(number, who, outgoing, self.node.settled, purpose, host))

    def handle(self, event: events.Event) -> None:
        """Let the node handle *event*, and carry out its effects."""
        for effect in self.node.handle(event, self.now):
            match effect:
                case events.Send():
                    self._send(effect)
                case events.Close():
                    assert effect.link != _FRIEND, f"the honest link is closed: {effect.detail}"
                    self.close(effect.link, effect.reason)
                case events.SetTimer():
                    self.timers[effect.timer] = effect.at
                case events.Deliver() if effect.first:
                    self._told(effect.origin, effect.epoch, effect.first, effect.last)
                case events.Dial():
                    self.handle(events.DialFailed(effect.contact.id))
                case events.Emit(what=events.GapFound() | events.Poisoned() as what):
                    self._told(what.origin, what.epoch, what.first, what.last)
                case events.Deliver() | events.DeliverDirects() | events.Emit():
                    pass
                case _:
                    assert_never(effect)

    def close(self, number: int, reason: Reason) -> None:
        """End a link, at once."""
        if self.links.pop(number, None) is not None:
            self.handle(events.LinkClosing(number, reason))
            self.handle(events.LinkClosed(number))

    def accept(self, number: int) -> None:
        """Let the transport of a link accept all bytes."""
        if number in self.links:
            self.handle(events.Accepted(number, self.links[number]))

    def until(self, now: float) -> None:
        """Let time pass up to *now*."""
        for _ in range(_TIMERS):
            due = [(at, timer.value) for timer, at in self.timers.items() if at <= now]
            if not due:
                self.now = now
                return
            at, value = min(due)
            del self.timers[Timer(value)]
            self.now = max(self.now, at)
            self.handle(events.TimerFired(Timer(value)))
        raise AssertionError("timers set each other again and again")

    def check(self) -> None:
        """Check that each table is within its limit."""
        footprint = self.node.footprint()
        for table, limit in limits(self.config, footprint["links"]).items():
            assert footprint[table] <= limit, f"{footprint[table]} in {table}, of {limit}"

    def _send(self, send: events.Send) -> None:
        data = codec.encode(send.frame)
        assert len(data) == send.size
        for number in send.links:
            assert number in self.links, "a frame for a link that is closed"
            self.links[number] += send.size
        if _FRIEND in send.links:
            self.outbox.append(codec.decode(data[LENGTH_BYTES:]))
        if set(send.links) != {_FRIEND}:
            self.heard.append(data[LENGTH_BYTES:])

    def _told(self, origin: bytes, epoch: int, first: int, last: int) -> None:
        before = self._last.get((origin, epoch), first - 1)
        assert origin != self._origin, "it was delivered its own messages"
        assert first == before + 1 and first <= last, f"{first} to {last} after {before}"
        self._last[origin, epoch] = last


class Meeting:
    """The node, its honest neighbour, and two adversaries; all begins when the links are up."""

    def __init__(self) -> None:
        self.me = Party("me", CONFIG)
        self.friend = Party("anna", changed(CONFIG, members_limit=64, open_streams=64))
        self._slots = [1, 2]  # the links of the adversaries
        self._opened = _FRIEND
        self.me.open(_FRIEND, "anna", outgoing=True)
        self.friend.open(_FRIEND, "me", outgoing=False)
        self._carry()
        for number, name in enumerate(HOSTILE, 1):
            self._link(number, name)

    def play(self, data: bytes) -> None:
        """Play the first steps of *data*."""
        for step in islice(steps(data), _STEPS):
            head = step[0]
            if head < 0x80:
                self._frame(self._slots[head & 1], step[STEP_HEAD:])
            elif head < 0xC0:
                self._wait((head & 0x3F) * 0.1)
            elif head < 0xD0:
                self.me.handle(events.Publish(entries(head), 1000))
            elif head < 0xE0:
                self.friend.handle(events.Publish(entries(head), 1000))
            elif head < 0xF0:
                self._again(head & 1, head)
            elif self.me.heard:
                self._frame(self._slots[head & 1], self.me.heard[-1 - (head >> 1 & 7) % len(self.me.heard)])
            self._carry()
        self._wait(_REST)
        for party in (self.me, self.friend):
            assert _FRIEND in party.links
            party.check()

    def _link(self, number: int, name: str, purpose: Purpose = Purpose.JOIN, said: bool = False) -> None:
        self.me.open(number, name, outgoing=False, purpose=purpose, said=said)
        for first in () if said else (Snapshot(True, []), Roster(True, [], 0)):
            if number in self.me.links:
                self.me.handle(events.Received(number, (first,)))
        self._carry()

    def _again(self, slot: int, step: int) -> None:
        """Close a link of an adversary, and open another, on which no frame has come if *step* says so."""
        self.me.close(self._slots[slot], Reason.LOST)
        self._opened += 1
        self._slots[slot] = self._opened
        purposes = [*Purpose]
        self._link(self._opened, HOSTILE[slot], purposes[(step >> 1) % len(purposes)], bool(step & 0x10))

    def _frame(self, number: int, payload: bytes) -> None:
        if number not in self.me.links:
            return
        try:
            frame = codec.decode(payload)
        except RemoteError as error:
            self.me.close(number, error.reason)
            return
        self.me.handle(events.Received(number, (frame,)))

    def _wait(self, seconds: float) -> None:
        """Let time pass, in parts of two seconds; the transports accept all."""
        end = self.me.now + seconds
        while self.me.now < end:
            now = min(end, self.me.now + 2.0)
            for party in (self.me, self.friend):
                party.until(now)
            self._carry()

    def _carry(self) -> None:
        """Carry all frames between the honest nodes."""
        for number in list(self.me.links):
            self.me.accept(number)
        self.friend.accept(_FRIEND)
        while self.me.outbox or self.friend.outbox:
            for party, other in ((self.me, self.friend), (self.friend, self.me)):
                if party.outbox:
                    frames = list(party.outbox)
                    party.outbox.clear()
                    other.handle(events.Received(_FRIEND, frames))
                    party.accept(_FRIEND)

"""Schedules whose members ask for receipts and send direct messages.

Contract: an :class:`Asking` is a ``Play`` with a :class:`Book` of the messages that applications really
took; no core sees it.  At every moment these are violations: a receipt of a member that did not take the
message; a direct message that comes twice in one run, or before an earlier one of its sender, or without
room for it, or is acknowledged and never came, or can be read on its way, or comes as somebody else's;
an answer that is given to another request; receipts that are sent too often.  At the end, it is a
violation if an author lacks a receipt of a member that took a message, or a request an answer that came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.node import Node
from twisted_mesh.core.replies.questions import Question, Questions
from twisted_mesh.core.replies.routes import MOST_HOPS
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.receipts import RECEIPT_ADVERSARIES
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play, Schedule
from twisted_mesh.simulation.trace import AnyFrame, show
from twisted_mesh.simulation.world import World
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.fields import MessageId
from twisted_mesh.wire.membership import Presence, Role
from twisted_mesh.wire.replies import Direct, DirectAck, DirectKey, Receipts
from twisted_mesh.wire.signed import SignedRecord

_SECRET: Final = "for the reader alone"  # in every direct message
_REST: Final = 150.0  # seconds until all receipts are there: repeats come after 5, 15, 35, 75, 155
_WHISPER: Final = 2  # the type of a direct message
_BURSTS: Final = (1, 1, 1, 1, 7)  # direct messages at a time, of which several share a frame
_FULL: Final = 0.05  # of the messages let an application have no room for direct messages
_FULL_FOR: Final = (0.1, 5.0)  # seconds
_QUERIES: Final = 0.1  # of the messages to all ask for answers
_THINKS: Final = 5.0  # seconds that a member takes at most to answer a request
_PART: Final = 1e-9  # seconds by which sums of floats may be wrong
#: Seconds from one act of an adversary to the next once all messages are sent: if it went on as before, a
#: run would take minutes.
_PACE: Final = 1.0


class Letter:
    """A direct message.

    :ivar sender: the run that sent it; :ivar sent: the time.
    :ivar ended: why the sender gave it up; "" if it was acknowledged; None if neither.
    :ivar reader: the origin of the member it is for; :ivar since: when that member's run had begun.
    :ivar about: the token of the request that it answers, or 0; :ivar query: the id of the query, or None.
    :ivar credited: of a request: whether an answer was given to it.
    """

    __slots__ = ("about", "credited", "ended", "query", "reader", "sender", "sent", "since")

    def __init__(self, sender: StreamId, reader: Member, sent: float, about: int = 0) -> None:
        self.about = about
        self.credited = False
        self.query: MessageId | None = None
        self.sender = sender
        self.sent = sent
        self.reader = reader.origin
        self.since = reader.since
        self.ended: str | None = None


class Book:
    """The messages that were really sent and taken.

    :ivar taken: for each message, the origins of the members whose applications got it.
    :ivar letters: all direct messages; :ivar got: how often each came to each run.
    :ivar arrived: the tokens of the letters that came; a token is a letter's number, from 1.
    :ivar requests: the tokens of those that are requests; :ivar members: all members.
    :ivar queries: by id, the messages to all that ask for answers.
    :ivar adversaries: the origins of members whose receipts are not checked.
    :ivar hops: the most hops of a receipt or direct message; :ivar way: of a batch or record.
    :ivar sent: when receipts for an author were sent last, by link, sender and author.
    """

    def __init__(self) -> None:
        self.taken: dict[tuple[StreamId, int], set[bytes]] = {}
        self.letters: list[Letter] = []
        self.requests: set[int] = set()
        self.queries: dict[MessageId, Question] = {}
        self.members: list[Member] = []
        self.got: Counter[tuple[int, StreamId]] = Counter()
        self.arrived: set[int] = set()
        self.adversaries: set[bytes] = set()
        self.hops = self.way = 0
        self.sent: dict[tuple[int, bytes, bytes], float] = {}


class Asker(Member):
    """A member that notes in the book what its application takes, and checks its receipts by it.

    :cvar book: of all members together.
    :ivar latest: by the runs of sender and reader, the direct message that came last.
    :ivar questions: the requests of the present run to which no answer has come.
    :ivar full: the core that was told that the application has no room for direct messages.
    """

    book: Book

    def start(self) -> None:
        """Begin a run."""
        self.asked: set[int] = set()
        self.latest: dict[tuple[StreamId, StreamId], int] = {}
        self.full: Node | None = None
        self._together: list[events.SendDirect] | None = None
        self.questions = Questions()
        super().start()

    def ask(self, *packets: object) -> None:
        """Send a message that asks for receipts."""
        if self.publish(*packets, asks=True):
            self.asked.add(self.node.outbox.head)

    def write(self, reader: Member, about: int = 0, answers: MessageId | None = None) -> int:
        """Send a direct message; return its token.

        :param about: the token of the request that it answers, whose id is *answers*.
        """
        self.book.letters.append(Letter(self.run, reader, self.world.now, about))
        token = len(self.book.letters)
        body = join_entries([pack_entry(_WHISPER, [token, _SECRET])])
        message = events.SendDirect(token, reader.origin, body, answers)
        if self._together is None:
            self.handle(events.SendDirects((message,)))
        else:
            self._together.append(message)
        return token

    @contextmanager
    def one_turn(self) -> Iterator[None]:
        """Send the direct messages that are written meanwhile in one turn."""
        together = self._together = []
        try:
            yield
        finally:
            self._together = None
        self.handle(events.SendDirects(together))

    def request(self, reader: Member) -> None:
        """Send a request: the reader answers once, twice or never."""
        token = self.write(reader)
        self.questions.ask((*self.run, -token), Question({reader.origin}))
        self.book.requests.add(token)

    def query(self) -> None:
        """Send a query to everybody: some answer."""
        if self.publish("?"):
            there = {author.presence.origin for author in self.node.roster if author.is_there}
            id = (*self.run, self.node.outbox.head)
            question = self.book.queries[id] = Question(there, is_open=True)
            self.questions.ask(id, question)

    def _answer_query(self, id: MessageId, core: Node | None) -> None:
        """Answer a query, if this is still the run that got it, and the asker is known."""
        if core is not None and self.core is core and self.node.roster.get(id[0]) is not None:
            [asker] = [member for member in self.book.members if member.origin == id[0]]
            token = self.write(asker, 0, id)
            self.book.letters[token - 1].query = id

    def _answer(self, token: int, core: Node | None) -> None:
        """Answer a request, if this is still the run that got it."""
        if core is not None and self.core is core:
            asked = self.book.letters[token - 1]
            [asker] = [member for member in self.book.members if member.origin == asked.sender[0]]
            self.write(asker, token, (*asked.sender, -token))

    def _credit(self, deliver: events.Deliver) -> None:
        """Give an answer to the request that it names, and check that it was asked of its sender."""
        if (id := self.questions.credit(deliver)) is None or id in self.book.queries:
            return
        asked = self.book.letters[-id[2] - 1]
        asked.credited = True
        letters, token = self.book.letters, deliver.entries[0][2]
        is_letter = 0 < token <= len(letters) and letters[token - 1].sender[0] == deliver.origin
        if deliver.origin != asked.reader or (is_letter and letters[token - 1].about != -id[2]):
            self.world.violated(self, "directs", f"{-id[2]} was given an answer to another request")

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Check a frame that is sent."""
        book = self.book
        if isinstance(frame, SignedRecord) and isinstance(frame.record, Direct | DirectAck | DirectKey):
            book.hops = max(book.hops, frame.hops)
            if _SECRET.encode() in frame.array:
                self.world.violated(self, "directs", "one can be read on its way")
        elif isinstance(frame, SignedBatch) or (
            isinstance(frame, SignedRecord) and isinstance(frame.record, Presence)
        ):
            book.way = max(book.way, frame.hops)
        elif isinstance(frame, Receipts):
            book.hops = max(book.hops, *(signed.hops for signed in frame.entries))
            for author in dict.fromkeys(codec.receipt(signed.array).origin for signed in frame.entries):
                self._paced((number, self.origin, author))
        super().transmit(number, frame, size)

    def _paced(self, key: tuple[int, bytes, bytes]) -> None:
        now, last = self.world.now, self.book.sent.get(key, float("-inf"))
        if now - last < self.world.config.receipt_delay - _PART:
            self.world.violated(self, "receipts", f"two frames in {now - last:.3f} s over link {key[0]}")
        self.book.sent[key] = now

    def _take(self, deliver: events.Deliver) -> None:
        run = (deliver.origin, deliver.epoch)
        for sequence in range(deliver.first, deliver.first + len(deliver.entries) if deliver.first else 0):
            self.book.taken.setdefault((run, sequence), set()).add(self.origin)
            if (id := (*run, sequence)) in self.book.queries and self.world.random.random() < 0.5:
                later = self.world.now + self.world.random.uniform(0, _THINKS)
                self.world.at(later, partial(self._answer_query, id, self.core))
        if deliver.direct_number:
            self._credit(deliver)
        if not deliver.first and not self._is_letter(deliver):
            return
        super()._take(deliver)

    def _is_letter(self, deliver: events.Deliver) -> bool:
        token = deliver.entries[0][2]
        letters = self.book.letters
        if not 0 < token <= len(letters) or letters[token - 1].sender != (deliver.origin, deliver.epoch):
            if _SECRET in deliver.entries[0]:
                self.world.violated(self, "directs", f"{token} came as another's")
            return False  # an adversary sent it
        self.book.got[token, self.run] += 1
        self.book.arrived.add(token)
        if token in self.book.requests:
            for _ in range(self.world.random.randrange(3)):
                later = self.world.now + self.world.random.uniform(0, _THINKS)
                self.world.at(later, partial(self._answer, token, self.core))
        runs = (deliver.origin, deliver.epoch), self.run
        if token <= self.latest.get(runs, 0):
            self.world.violated(self, "directs", f"{token} came after {self.latest[runs]}")
        self.latest[runs] = token
        if self.full is self.core:
            self.world.violated(self, "directs", f"{token} came although there was no room")
        if self.book.got[token, self.run] > 1:
            self.world.violated(self, "directs", f"{token} came twice")
        return True

    def _hear(self, what: events.Happening) -> None:
        match what:
            case events.Receipted():
                for sequence in what.sequences:
                    self._heard(sequence)
            case events.DirectsEnded():
                for token in what.tokens:
                    self._ended(token, what.why)
            case _:
                pass
        super()._hear(what)

    def _ended(self, token: int, why: str | None) -> None:
        letter = self.book.letters[token - 1]
        letter.ended = why or ""
        is_false = why is None and token not in self.book.arrived
        if is_false and letter.reader not in self.book.adversaries:
            self.world.violated(self, "directs", f"{token} was acknowledged and never came")

    def _heard(self, sequence: int) -> None:
        holders = self.node.replies.holders(sequence)
        if holders is None:
            return
        false = holders.delivered - self.book.taken.get((self.run, sequence), set()) - self.book.adversaries
        if false:
            what = f"{show(self.run)} {sequence} is not with {len(false)} of those that should have it"
            self.world.violated(self, "receipts", what)


class Asking(Play):
    """One run of a schedule with direct messages, in which half of the other messages ask for receipts."""

    def __init__(
        self, schedule: Schedule, seed: int, count: int, trace: Callable[[str], None] | None = None
    ) -> None:
        self.book = Asker.book = Book()
        super().__init__(schedule, seed, count, trace)
        self.book.members = self.world.members
        self.book.adversaries = {member.origin for member in self.world.members if member.lies}

    def _kinds(self, count: int) -> list[type[Member]]:
        dishonest = int(count * self.schedule.adversaries)
        adversaries = [
            RECEIPT_ADVERSARIES[(self.seed + number) % len(RECEIPT_ADVERSARIES)]
            for number in range(dishonest)
        ]
        return [*adversaries, *[Asker] * (count - dishonest)]

    def _begin(self) -> None:
        super()._begin()
        self._calm(self.world.now)

    def _calm(self, start: float) -> None:
        """Let adversaries do less, from twice the time of the messages on, which begins at *start*."""
        for member in self.world.members:
            if isinstance(member, Adversary):
                slower = partial(setattr, member, "pace", max(member.pace, _PACE))
                self.world.at(start + 2 * self.schedule.seconds, slower)

    def run(self, progress: Callable[[float], None] = lambda share: None) -> World:
        """Play to the end, and on until all receipts have come, or are overdue."""
        world = super().run(progress)
        end = world.now + _REST
        while world.now < end and self._unknown():
            world.run_until(world.now + 5.0)
        for asker, what in self._unknown():
            world.violated(asker, "receipts", what)
        self._check_letters()
        if self.book.hops >= MOST_HOPS and not self.schedule.adversaries:
            world.violated(world.members[0], "receipts", f"something went {self.book.hops} hops")
        return world

    def _publish(self) -> None:
        random = self.world.random
        now = self.world.now
        askers = [one for one in self.world.honest() if isinstance(one, Asker) and one.held_until <= now]
        if not askers:  # in a small world all members can be down or stall at once
            return
        asker, reader = random.choice(askers), random.choice(self.world.members)
        if random.random() < _FULL:
            self._fill(random.choice(askers))
        if random.random() < _QUERIES:
            asker.query()
        elif random.random() < 0.5:
            asker.ask("x" * random.randrange(300))
        else:
            super()._publish()
        if reader is not asker and asker.node.roster.get(reader.origin) is not None:
            with asker.one_turn():
                for _ in range(random.choice(_BURSTS)):
                    if random.random() < 0.5:
                        asker.write(reader)
                    else:
                        asker.request(reader)

    def _fill(self, asker: Asker) -> None:
        """Let an application have no room for direct messages, for some seconds."""
        world, core = self.world, asker.core

        def empty() -> None:
            if asker.core is core:
                asker.full = None
                asker.handle(events.DirectRoom(True))

        if asker.full is not core:
            asker.handle(events.DirectRoom(False))
            asker.full = core
            world.at(world.now + world.random.uniform(*_FULL_FOR), empty)

    def _unknown(self) -> list[tuple[Asker, str]]:
        """The receipts that authors lack, each as the author and a sentence for people."""
        unknown = []
        for asker in self.world.honest():
            for sequence in getattr(asker, "asked", ()):
                assert isinstance(asker, Asker)
                holders = asker.node.replies.holders(sequence)
                for member in self.world.honest():
                    stream = member.node.history.get(asker.run)
                    if holders is None or member is asker or stream is None or member.role is Role.GUEST:
                        continue
                    has = stream.whole <= sequence <= member.delivered.get(asker.run, 0)
                    if has and member.origin not in holders.delivered:
                        what = f"{show(asker.run)} {sequence} is with node {member.number}, unknown"
                        unknown.append((asker, what))
        return unknown

    def _check_letters(self) -> None:
        """Check that letters to members that were up all the time came, and were acknowledged."""
        world = self.world
        world.run_until(world.now + world.config.direct_timeout)
        members = {member.origin: member for member in world.members}
        for token, letter in enumerate(self.book.letters, 1):
            sender, reader = members[letter.sender[0]], members[letter.reader]
            if sender.core is None or sender.run != letter.sender or sender.lies:
                continue
            # Nobody knows of a guest that has sent nothing in its present run.
            is_known = reader.role is not Role.GUEST or reader.run in world.published
            was_there = reader.core is not None and reader.since == letter.since and is_known
            if letter.ended is None:
                world.violated(sender, "directs", f"{token} has not ended")
            elif letter.ended and max(sender.late_until, reader.late_until) > letter.sent:
                continue  # it, or its acknowledgement, waited behind the backlog of a line
            elif letter.ended and was_there and not reader.lies:
                world.violated(sender, "directs", f"{token}: {letter.ended}")
            elif not letter.ended:
                self._check_answer(token, letter, reader)

    def _check_answer(self, token: int, letter: Letter, asker: Member) -> None:
        """Check that an answer which its reader has acknowledged was given to the request or query."""
        if letter.query is not None:
            is_missing = letter.sender[0] not in self.book.queries[letter.query].answered
            if is_missing and asker.core is not None and asker.run == letter.query[:2] and not asker.lies:
                self.world.violated(asker, "directs", f"the answer {token} to a query is missing")
            return
        if not letter.about:
            return
        asked = self.book.letters[letter.about - 1]
        if asker.core is not None and asker.run == asked.sender and not asker.lies and not asked.credited:
            self.world.violated(asker, "directs", f"{letter.about} was not given the answer {token}")


ASKING: Final = {
    f"asking-{name}": replace(SCHEDULES[name], **limits)  # type: ignore[arg-type]
    for name, limits in {
        "calm": {},
        "flapping": {"cuts": 2.0},
        "crashes": {},
        "restarts": {},
        "partition": {},
        "joins": {},
        "slow": {},
        "liars": {"adversaries": 0.2},
        "everything": {},
    }.items()
}

"""Repair: asks neighbours for the messages that this node lacks, each message once, one link at a time.

Contract: a peer *claims* messages, unsigned, and answers a WANT with them.  :meth:`Repair.announced` is
called for every claim that goes beyond the messages held here.  :meth:`Repair.due` gives the WANTs to send
now, and :attr:`Repair.wake` the time to call it again.  Which link to ask is decided in
:mod:`~twisted_mesh.core.broadcast.candidates`, how long to wait for it in
:mod:`~twisted_mesh.core.broadcast.pace`.  The rules, each with its reason:

* an announcement on a link that is lazy by us waits for ``graft_timeout``, since the push is probably on
  its way over the tree; over an eager link the peer would have pushed, so it is asked at once;
* one link at a time is asked for a stream.  The next is asked after the HAVE that ends the answer, or if
  the link stalls or is outrun;
* runs of which no signed batch came are *unverified*: they have a window of their own, and no place behind
  a link that leaves WANTs unanswered.  Otherwise made-up runs would hold up the real ones;
* if a link is lost, another is grafted at once for every origin whose parent it was: to wait for an
  announcement would cost ``have_delay`` and ``graft_timeout``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.candidates import TRIES, Candidates
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN, Pace
from twisted_mesh.core.broadcast.pull import Pull
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.broadcast.window import Window
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.shares import PUT_OFF
from twisted_mesh.wire.broadcast import Batch, Want
from twisted_mesh.wire.fields import MAX_NUMBER

UNVERIFIED_MOST: Final = 1024  # unverified runs that are pulled at a time (guess)
_BRINGS: Final = 1.0  # seconds after a missing message in which a link is just bringing more (guess)
LOOKS_MOST: Final = 128  # runs looked at in one event: 512 take 15 ms (measured)
PACED_MOST: Final = 2  # runs asked for at a time whose authors were over their shares (guess)
PULLED_MOST: Final = 64  # runs that all neighbours are asked for: one author can begin thousands (guess)


class Repair:
    """The pulls of a node: one for each run of which it lacks messages."""

    def __init__(
        self, history: History, links: Links, parents: Parents, admission: Admission, config: MeshConfig
    ) -> None:
        """:param parents: the link over which each origin's newest message came."""
        self._admission = admission
        self._history = history
        self._links = links
        self._parents = parents
        self._config = config
        self._pace = Pace(history, links, config)
        self._candidates = Candidates(history, links, self._pace, config.claims_limit)
        self._window = Window(config.answer_bytes)
        self._pulls: dict[StreamId, Pull] = {}
        self._moved = 0.0  # when an asked link last brought a missing message
        self._unverified: set[StreamId] = set()  # runs that were unverified when their pull began
        self._paced: set[StreamId] = set()  # asked runs whose authors were over their shares
        self._wakes: list[tuple[float, StreamId]] = []  # a heap; entries may be out of date

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        return {
            "pulls": len(self._pulls),
            "queued_pulls": len(self._window),
            "unverified_pulls": len(self._unverified),
            "paced_pulls": len(self._paced),
            "announcements": sum(len(pull.announced) for pull in self._pulls.values()),
            "failures": sum(len(link.repair.failed) for link in self._links.all),
            "wakes": len(self._wakes),
        }

    # ── questions ───────────────────────────────────────────────────────────────────

    @property
    def wake(self) -> float | None:
        """When to call :meth:`due` next, or None."""
        return self._wakes[0][0] if self._wakes else None

    def is_asked(self, link: int, run: StreamId) -> bool:
        """Whether *link* was asked for *run* and has not ended its answer."""
        pull = self._pulls.get(run)
        return pull is not None and (pull.asked == link or link in pull.owing)

    def is_answer(self, link: int, batch: Batch) -> bool:
        """Whether *link* was asked for messages of *batch*; a graft asks for none in particular."""
        if (pull := self._pulls.get((batch.origin, batch.epoch))) is None:
            return False
        first, last = pull.answers.get(link, (1, 0))
        return batch.first <= last and first <= batch.last

    def is_pulled(self, run: StreamId, now: float) -> bool:
        """Whether a link sends messages that *run* lacks, was asked for them, or is about to be asked."""
        if self._pace.is_urgent(run, now):
            return False
        pull = self._pulls.get(run)
        if pull is not None and (pull.asked is not None or not pull.owing):
            return True
        return bool(self._pace.under_way(run))

    def is_in_vain(self, run: StreamId) -> bool:
        """Whether a link was asked for messages of *run*, did not send them, and none came since."""
        return run in self._pulls and self._pulls[run].in_vain

    def slow_parent(self, origin: bytes, now: float) -> Link | None:
        """The parent of *origin*, if it pushes over a slow line, where new messages may still be queued.

        A link that was grafted in place of a lost parent is none before it has brought anything.
        """
        number = self._parents.sure_of(origin)
        parent = None if number is None else self._links.get(number)
        if parent is None or not parent.repair.is_slowed(now) or origin in parent.push.lazy_by_us:
            return None
        return parent

    def last_sign(self, run: StreamId, now: float) -> float | None:
        """When a slow line last gave reason to wait for the missing messages of *run*.

        :return: None if no slow line is to bring them.
        """
        missing = self._history.head(run) + 1
        signs = [link.repair.last_batch_at for link, _ in self._pace.under_way(run)]
        signs += [  # a neighbour pushes what it claims once its line has room, or is asked for it
            self._pace.sign(link, -inf, now)
            for link in self._links.fed
            if self._claims(link, run, missing)
            and self._pace.is_known_slow(link, now)
            and self._candidates.failures(link, run) < TRIES
        ]
        if (pull := self._pulls.get(run)) is None:
            return max(signs, default=None)
        waited_for = pull.owing
        if pull.asked is not None:  # the links that announced the run are asked after this one
            waited_for = dict.fromkeys(pull.announced, pull.since) | pull.owing | {pull.asked: pull.since}
        for number, since in waited_for.items():
            link = self._link(number)
            if self._pace.is_slow(link, now):
                # A link that claims none of the messages may still be asked by a WANT that is not read yet.
                unread = number in pull.wanted and self._pace.is_unread(link, run, pull.wanted[number], now)
                if unread or self._claims(link, run, missing):
                    signs.append(self._pace.sign(link, since, now))
                elif self._pace.is_young(run, now) or self._claims_part(link, run):
                    signs.append(link.repair.last_batch_at)  # of a new link, when it opened
        if pull.put_off is not None and (parent := self.slow_parent(run[0], now)) is not None:
            signs.append(parent.repair.last_batch_at)
        if pull.over_share is not None:
            signs.append(pull.over_share)
        if self._window.is_waiting(run):  # until links that are asked for other runs have answered
            asked = [
                link for link in self._links.all if link.repair.pulls and self._pace.is_slow(link, now)
            ]
            signs += [self._pace.sign(link, link.repair.answered_at, now) for link in asked]
        return max(signs, default=None)

    @staticmethod
    def _claims(link: Link, run: StreamId, message: int) -> bool:
        low, high = link.frontier.claims.get(run, (1, 0))
        return low <= message <= high

    def _claims_part(self, link: Link, run: StreamId) -> bool:
        low, high = link.frontier.claims.get(run, (1, 0))
        return low <= high and self._history.next_missing(run, low, high) is not None

    # ── whom this node could ask ────────────────────────────────────────────────────

    def announced(self, link: Link, run: StreamId, now: float, *, eager: bool) -> None:
        """Note that the claim of *link* on *run* goes beyond the messages held here.

        :param eager: whether to ask at once.
        """
        if (pull := self._pulls.get(run)) is None:
            if not self._history.is_known(run):
                if len(self._unverified) >= UNVERIFIED_MOST or link.repair.failures >= TRIES:
                    return  # the next comparison announces it again
                self._unverified.add(run)
            pull = self._pulls[run] = Pull(run)
        due = now if eager else now + max(self._config.graft_timeout, 2 * link.flow.rtt)
        if pull.announce(link.number, link.frontier.claims[run][1], due, eager=eager):
            self._wake(due, run)

    def ask_again(self, run: StreamId, now: float) -> None:
        """Ask the links that claim more of *run* than is held, since this node has lost some of it."""
        for link in self._links.fed:
            self._ask_at_once(link, run, now)

    def last_wants(self, link: Link, now: float) -> list[tuple[Link, Want]]:
        """The WANTs for all that *link* claims and this node lacks: the peer is about to stop.

        Neither the number of runs that are asked for at a time, nor a quota, nor a slow line that is about
        to bring messages puts them off: the messages would be gone with the peer.
        """
        wants = []
        for run in list(link.frontier.claims):
            self._ask_at_once(link, run, now)
            if (pull := self._pulls.get(run)) is None or link.frontier.holds(run) <= self._history.head(
                run
            ):
                continue
            if self._admission.shares.free(run[0]):
                pull.over_share = None
                if pull.asked == link.number and run in self._paced:
                    self._release(pull)  # the next WANT takes the place of that for some messages
                    pull.ranges.pop(link.number, None)
            most = self._askable(pull, now)
            if most and (want := self._last_want(pull, link, most, now)) is not None:
                first, last = pull.ranges.get(link.number, (want.first, want.last))
                if pull.asked is not None:
                    if pull.asked != link.number:
                        pull.owing[pull.asked] = now  # its answer may still come, but may also be empty
                    self._release(pull)
                pull.owing.pop(link.number, None)
                self._window.drop(run)
                wants.append(self._asked(pull, link, want, most, now))
                if last < want.first:  # both WANTs will be answered
                    pull.ranges[link.number] = pull.answers[link.number] = first, want.last
        return wants

    def _last_want(self, pull: Pull, link: Link, most: int, now: float) -> Want | None:
        """The WANT for *most* messages of *pull* that *link* claims; None if it is not to be asked."""
        if self._candidates.is_hopeless(pull, link) or self._is_over(pull.run):
            return None
        low, high = link.frontier.claims[pull.run]
        if pull.asked is not None and pull.asked != link.number and pull.got:
            holds = self._link(pull.asked).frontier.holds(pull.run)
            if holds >= high and now < pull.progress + _BRINGS:
                return None  # a link that claims as much is just bringing it
        first = low
        if pull.asked == link.number or link.number in pull.owing:  # it was asked for all before
            first = max(low, pull.ranges.get(link.number, (0, low - 1))[1] + 1)
        missing = self._history.next_missing(pull.run, first, high)
        if missing is None:
            return None
        return Want(*pull.run, missing[0], min(missing[1], missing[0] + most - 1), graft=True)

    def _ask_at_once(self, link: Link, run: StreamId, now: float) -> None:
        if link.frontier.holds(run) > self._history.head(run):
            self.announced(link, run, now, eager=True)

    def parent_lost(self, run: StreamId, now: float, turn: int = 0) -> int | None:
        """Graft the best way to the author of *run*, whose parent is gone; after *turn* 0 each in turn.

        :return: the link that is asked.  It counts as the parent until another link brings a message.
        """
        if not (ways := self._candidates.ways_to(run, now)):
            return None
        in_turn = sorted(ways, key=lambda link: link.number)
        way = in_turn[(turn - 1) % len(ways)] if turn else ways[0]
        way.repair.failed.pop(run, None)  # its failures are forgiven: no other link is better
        self._pulls.setdefault(run, Pull(run)).graft(way.number, now)
        self._wake(now, run)
        return way.number

    def unsent(self, runs: Iterable[StreamId], now: float) -> list[StreamId]:
        """Those of *runs* of which no link is about to send missing messages."""
        return [run for run in runs if self.is_in_vain(run) or not self.is_pulled(run, now)]

    def pull_from_all(self, runs: Sequence[StreamId], now: float, *, again: bool = False) -> None:
        """Ask all neighbours for the missing messages of the first of *runs*.

        Neighbours that claim none of the messages are asked, too: they do not claim batches that wait
        behind a hole of their own.

        :param again: whether the link that was asked is asked once more, when it has answered.
        """
        for run in runs[:PULLED_MOST]:
            pull = self._pulls.setdefault(run, Pull(run))
            stream = self._history.get(run)
            for link in self._links.fed:
                low, high = link.frontier.claims.get(run, (1, 0))
                gave_up = stream is not None and low > high >= stream.high  # and holds none of the messages
                if link.frontier_received and not gave_up and (again or link.number != pull.asked):
                    pull.graft(link.number, now)
            self._wake(now, run)

    # ── what links bring ────────────────────────────────────────────────────────────

    def arriving(self, link: Link, now: float) -> StreamId | None:
        """Note that *link* is in the middle of a frame.

        :return: the frame's run, if its messages are missing here, and *link* is expected to bring them.
        """
        partial = link.repair.partial
        if partial is None:
            return None
        # Bytes keep their order on a link: this frame has the missing messages, or comes before them.
        link.repair.last_batch_at = now
        run = partial.run
        missing = self._history.next_missing(run, partial.first, partial.last)
        if missing is None or self._pace.is_urgent(run, now):
            return None
        is_asked = self.is_asked(link.number, run)
        if is_asked:
            self._progressed(link.number, run, now)
        is_parent = self._parents.of(run[0]) == link.number and run[0] not in link.push.lazy_by_us
        return run if (is_asked or is_parent) and not link.repair.stalled_answers else None

    def arrived(self, link: int, run: StreamId, last: int, now: float) -> None:
        """Note that *link* has brought *run* up to *last*: other links need not send these messages."""
        if (pull := self._pulls.get(run)) is None:
            return
        pull.arrived(link, last)
        at = max(now, pull.since + LOOK_AGAIN, pull.revised + LOOK_AGAIN)
        if at != pull.revise_at and any(number != link for number in pull.ranges):
            pull.revise_at = at  # all batches until then are revised together
            self._wake(at, run)

    def progressed(self, link: Link, run: StreamId, now: float, size: int) -> None:
        """Note that *link*, which was asked, sent a batch of *size* bytes that was missing here."""
        pull = self._progressed(link.number, run, now)
        link.repair.failures = 0
        if pull.asked == link.number:
            pull.got += size

    def _progressed(self, link: int, run: StreamId, now: float) -> Pull:
        pull = self._pulls[run]
        if pull.asked is None and pull.owing.pop(link, None) is not None:  # the link was given up too soon
            pull.window = None
            self._ask(pull, self._link(link), now)
        pull.in_vain = False
        pull.progress = self._moved = now
        return pull

    def answered(self, link: Link, run: StreamId, now: float) -> None:
        """Note that *link* has ended its answer about *run*."""
        pull = self._pulls.get(run)
        if pull is None or not self.is_asked(link.number, run):
            return
        pull.ranges.pop(link.number, None)
        pull.answers.pop(link.number, None)
        pull.wanted.pop(link.number, None)
        is_asked = pull.owing.pop(link.number, None) is None
        if pull.is_graft(link.number):
            if not (is_asked and pull.announced[link.number][-1][0] > pull.since):  # to be asked once more
                del pull.announced[link.number]  # whatever it brought, the peer pushes again
        elif is_asked:
            self._window.answered(pull.got)
            self._judge(pull, link, now)
        if is_asked:
            self._release(pull)
        link.repair.answered_at = now
        self._wake(now, run)

    def _judge(self, pull: Pull, link: Link, now: float) -> None:
        """Note how well *link* has answered."""
        if pull.got:
            self._pace.answered(link, pull.got, pull.since, now)
        elif pull.dropped:
            link.repair.stalled_answers += 1  # this is no failure, but others are asked first
            pull.not_before = now + self._config.graft_retry
        else:
            self._note_failure(pull, link)

    def _note_failure(self, pull: Pull, link: Link) -> None:
        self._candidates.note_failure(link, pull.run)
        pull.in_vain = True

    def refused(self, link: Link, run: StreamId, now: float) -> None:
        """Note that a batch that *link* pushed was not kept: ask for it later."""
        high = link.frontier.holds(run)
        if high <= self._history.head(run):
            return
        pull = self._pulls.get(run)
        if pull is not None and (known := pull.announced.get(link.number)):
            known[-1] = known[-1][0], max(known[-1][1], high)  # one look is due, however many come
        else:
            self.announced(link, run, now, eager=False)
        if (pull := self._pulls.get(run)) is not None:
            pull.over_share = now

    def dropped(self, link: int, run: StreamId) -> None:
        """Note that a batch from *link* was not kept: it is not asked for again at once."""
        if (pull := self._pulls.get(run)) is not None and pull.asked == link:
            pull.dropped = True

    def link_gone(self, link: int, now: float) -> None:
        """Expect no answer from *link* any more."""
        for run, pull in self._pulls.items():
            pull.announced.pop(link, None)
            pull.ranges.pop(link, None)
            pull.answers.pop(link, None)
            pull.wanted.pop(link, None)
            if pull.owing.pop(link, None) is not None:
                self._wake(now, run)
            if pull.asked == link:
                self._release(pull)
                self._wake(now, run)
        self._link(link).repair.failed.clear()

    # ── asking ──────────────────────────────────────────────────────────────────────

    def due(self, now: float) -> list[tuple[Link, Want]]:
        """The WANTs to send now.  If many runs are due, some are left for the next :attr:`wake`."""
        wants: list[tuple[Link, Want]] = []
        self._window.narrow(self._pace.bytes_in_time(now))
        while True:
            runs: dict[StreamId, None] = {}
            while self._wakes and self._wakes[0][0] <= now and len(runs) < LOOKS_MOST:
                runs[heappop(self._wakes)[1]] = None
            for run in runs:
                may_ask = not self._window.is_waited_for(self._history.is_known(run))
                self._look(run, now, wants, may_ask=may_ask)
            if (next_run := self._window.next_run()) is not None:
                self._look(next_run, now, wants, may_ask=True)
            elif len(runs) == LOOKS_MOST or not runs:
                return wants

    def _look(self, run: StreamId, now: float, wants: list[tuple[Link, Want]], *, may_ask: bool) -> None:
        """Add to *wants* those that are due for *run*; see to it that this is called again in time."""
        if (pull := self._pulls.get(run)) is None:
            return
        wants += self._revised(pull, now)
        if pull.asked is not None and not self._gives_up(pull, now):
            return
        if now < pull.not_before:
            self._look_at(pull, pull.not_before, now)
            return
        most = self._askable(pull, now)
        if not most:
            self._look_at(pull, now + PUT_OFF, now)
            return
        if self._is_over(run):
            self._forget(run)
            return
        if (best := self._candidates.best(pull, now)) is None:
            self._wait(pull, now)
            return
        link, want = best
        if want.last - want.first >= most and want.last < MAX_NUMBER:
            want = replace(want, last=want.first + most - 1)
        if self._is_pushed(pull, link, want.first, now):
            self._look_at(pull, now + LOOK_AGAIN, now)
            return
        counts = want.last < MAX_NUMBER  # a graft may bring only few messages, so its size does not count
        verified = self._history.is_known(run)
        if counts and not (may_ask and self._window.is_open(verified)):
            self._window.wait(run, verified, link.number)
            return
        self._window.drop(run)
        wants.append(self._asked(pull, link, want, most, now, verified if counts else None))

    def _is_over(self, run: StreamId) -> bool:
        """Whether *run* is not asked for any more: it ends in a fork, or its author was removed."""
        stream = self._history.get(run)
        return (stream is not None and stream.equivocated) or self._admission.bars(run[0])

    def _asked(
        self, pull: Pull, link: Link, want: Want, most: int, now: float, window: bool | None = None
    ) -> tuple[Link, Want]:
        """Note that *link* is asked by *want*; return both.

        :param most: how many messages may be asked for (:meth:`_askable`).
        :param window: as :attr:`Pull.window`.
        """
        pull.dropped, pull.put_off = False, None
        pull.window = window
        pull.answers.pop(link.number, None)
        if window is not None:
            self._window.asked(window)
        if want.last < MAX_NUMBER:
            pull.answers[link.number] = want.first, want.last
        pull.ranges[link.number] = want.first, want.last
        pull.wanted[link.number] = link.flow.sent
        self._ask(pull, link, now)
        if most < MAX_NUMBER:
            self._paced.add(pull.run)
        self._look_at(pull, self._pace.stalls_at(link, pull.progress, self._moved, now), now)
        return link, want

    def _askable(self, pull: Pull, now: float) -> int:
        """How many messages of *pull* to ask for at a time; 0 for none now.

        If messages of the run were refused, or its author is over its share, there are so many as the share
        allows, and two such runs are asked for at a time: an answer can have thousands of tiny batches.
        """
        shares, author = self._admission.shares, pull.run[0]
        if pull.over_share is None and shares.is_within(author, now):
            return MAX_NUMBER
        most = shares.askable(author, now)
        if most == MAX_NUMBER:
            pull.over_share = None
        elif not most or len(self._paced) >= PACED_MOST:
            pull.over_share = now
            return 0
        return most

    def _revised(self, pull: Pull, now: float) -> Iterator[tuple[Link, Want]]:
        """WANTs that replace earlier ones, since their first messages have come over other links."""
        if now < pull.revised + LOOK_AGAIN:
            return
        pull.revised = now
        if (stream := self._history.get(pull.run)) is None:
            return
        for number, (first, last) in list(pull.ranges.items()):
            if first <= last < MAX_NUMBER:
                missing = stream.next_missing(first, last)
                begin = last + 1 if missing is None else missing[0]
                if begin > first:
                    pull.ranges[number] = begin, last
                    yield self._link(number), Want(*pull.run, begin, last, graft=False)

    def _wait(self, pull: Pull, now: float) -> None:
        """Look again when a link can be asked, or forget the run if none can be."""
        later = [due for known in pull.announced.values() for due, _ in known]
        if pull.announced and self._pace.under_way(pull.run):
            later.append(now + LOOK_AGAIN)
        verified = self._history.is_known(pull.run)
        for number, since in pull.owing.items():
            link = self._link(number)
            if verified or link.repair.failures < TRIES:
                later.append(self._pace.owes_until(link, since, now))
        if (at := min((at for at in later if at > now), default=None)) is not None:
            self._look_at(pull, at, now)
        else:
            self._forget(pull.run)

    def _gives_up(self, pull: Pull, now: float) -> bool:
        """Give the asked link up, if another may be asked; return whether that was done."""
        link = self._link(pull.asked)
        patient_until = pull.since + self._config.gap_patience
        if pull.window is not None and now >= patient_until:
            self._window.released(pull.window)  # other runs need not wait for this answer
            pull.window = None
        stalls_at = self._pace.stalls_at(link, pull.progress, self._moved, now)
        if self._pace.is_urgent(pull.run, now):
            if now < patient_until:
                self._look_at(pull, patient_until, now)
                return False
            link.repair.stalled_answers += 1
        elif now >= stalls_at and not self._pace.is_patient(pull.progress, now):
            self._note_failure(pull, link)
            link.repair.stalled_answers += pull.got > 0
        else:
            best = self._candidates.best(pull, now)
            passed_at = inf if best is None else self._pace.passed_at(link, best[0], pull.progress, now)
            is_outrun = best is not None and self._pace.is_outrun(link, best[0], pull.since, pull.got, now)
            if now < passed_at and not is_outrun:
                look_at = min(stalls_at, self._pace.outrun_at(link, pull.since, pull.got, now), passed_at)
                self._look_at(pull, look_at if look_at > now else now + LOOK_AGAIN, now)
                return False
            link.repair.stalled_answers += now < passed_at
        pull.owing[link.number] = now
        self._release(pull)
        return True

    def _is_pushed(self, pull: Pull, link: Link, first: int, now: float) -> bool:
        """Whether the parent, over a slow line, is about to push message *first*, which *link* claims.

        A parent that claims the message itself is not about to push it: it would have done so.
        """
        run = pull.run
        if (parent := self.slow_parent(run[0], now)) is None or self._pace.is_urgent(run, now):
            return False
        if parent is link or parent.frontier.holds(run) >= first:
            return False
        if pull.put_off is None:
            pull.put_off = now
        return not self._pace.is_outrun(parent, link, pull.put_off, 0, now)

    def _ask(self, pull: Pull, link: Link, now: float) -> None:
        pull.asked, pull.since, pull.progress, pull.got = link.number, now, now, 0
        if not link.repair.pulls:
            link.repair.answered_at = now
        link.repair.pulls += 1

    def _release(self, pull: Pull) -> None:
        """Stop waiting for the asked link."""
        self._link(pull.asked).repair.pulls -= 1
        self._paced.discard(pull.run)
        if pull.window is not None:
            self._window.released(pull.window)
        pull.asked = None

    def _forget(self, run: StreamId) -> None:
        del self._pulls[run]
        self._unverified.discard(run)
        self._window.drop(run)

    def _link(self, number: int | None) -> Link:
        """The link that is asked or owes an answer; :meth:`link_gone` removes all others."""
        link = None if number is None else self._links.get(number)
        assert link is not None
        return link

    def _look_at(self, pull: Pull, at: float, now: float) -> None:
        """Look at *pull* again at the time *at*, unless a look is due before: looks must not multiply."""
        if not now < pull.look_at <= at:
            pull.look_at = at
            self._wake(at, pull.run)

    def _wake(self, at: float, run: StreamId) -> None:
        heappush(self._wakes, (at, run))

"""Repair: getting what others have and this node misses, once and from one link at a time.

Contract: :meth:`Repair.announced` is told of every claim that goes beyond what is held here;
:meth:`Repair.due` says which WANTs to send now and :attr:`Repair.wake` when to look again.  Rules, each
with what goes wrong without it:

* an announcement on a link that is lazy by us is given ``graft_timeout``, since the push is probably on
  its way over the tree; on an eager link the peer could not push, so it is asked for at once;
* a stream has one asked link at a time; the next is asked after the closing HAVE, or when nothing came
  for a while: by progress, not by clock, or a slow line gets the same data from everyone;
* a link loses nothing, so one that was asked is asked again when it has answered: all would come twice;
* a link in the middle of a frame has a slow line, or drips: another is asked if it is known to be much
  faster, and for what is not under way already, unless that takes too long by far (:mod:`pace`);
* a link whose answer trickles in, and never stops, is given up, too, and asked after the others from then
  on: it would else hold up a run for as long as it likes;
* an announcer that failed three times for a range is not asked again for it: claims are unsigned, and
  a false one would be asked for ever;
* what is unverified (no signed batch of the run came) waits in a line of its own, and not behind
  a link that leaves its WANTs unanswered: made-up runs would else hold up the real ones;
* a lost link grafts at once every origin whose parent it was: waiting for an announcement costs
  ``have_delay`` and ``graft_timeout`` on top.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.failures import TRIES, Failures
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN, Pace
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.broadcast.window import Window
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.wire.broadcast import Want
from twisted_mesh.wire.fields import MAX_NUMBER

UNVERIFIED_MOST: Final = 1024  # unverified runs that are pulled at a time (guess)
#: Runs looked at in one event: thousands that stalled together took two seconds (measured).
LOOKS_MOST: Final = 512
#: Runs that are asked of all neighbours at a time: one author can begin thousands (guess).
PULLED_MOST: Final = 64
STEPS_MOST: Final = 8  # announcements of a link on a run that become due one after the other (guess)
_ROUND_TRIPS: Final = 4  # without progress, before another link is asked (guess)
_PATIENT: Final = 5  # times that, where the link brings other things meanwhile (guess)
_URGENT: Final = 1 / 2  # of gap_longest: for a hole so old nobody is waited for in particular (guess)


class Pull:
    """The repair of one run.

    :ivar asked: the link that was asked, or None.
    :ivar since: when it was asked; :ivar progress: then, or when it last sent something that was missing.
    :ivar got: bytes it has sent since; :ivar window: whether it is in the one of verified runs, or that
        of others; None: in neither, since it mends the tree.
    :ivar full: whether something it sent had no room; :ivar not_before: when to ask again after that.
    :ivar owing: links that were asked before it and have not answered, and when each was given up.
    :ivar ranges: what each link was asked for that has not answered.
    :ivar revised: when these were last held against what came another way; :ivar revise_at: and will be.
    :ivar put_off: since when nobody is asked because the parent is about to bring it.
    :ivar look_at: when it is looked at next, as far as it set that itself.
    """

    __slots__ = (
        *("announced", "asked", "full", "got", "look_at", "not_before", "owing"),
        *("progress", "put_off", "ranges", "revise_at", "revised", "since", "window"),
    )

    def __init__(self) -> None:
        self.announced: dict[int, deque[tuple[float, int]]] = {}  # link -> (when due, high)
        self.asked: int | None = None
        self.since = self.progress = self.revised = self.revise_at = 0.0
        self.got = 0
        self.window: bool | None = None
        self.full = False
        self.not_before = self.look_at = 0.0
        self.owing: dict[int, float] = {}
        self.ranges: dict[int, tuple[int, int]] = {}
        self.put_off: float | None = None


class Repair:
    """The pulls of a node."""

    def __init__(self, history: History, links: Links, parents: Parents, config: MeshConfig) -> None:
        """:param parents: over which link each origin's newest came."""
        self._history = history
        self._links = links
        self._parents = parents
        self._config = config
        self._pace = Pace(links, config)
        self._pulls: dict[StreamId, Pull] = {}
        self._asked: dict[int, int] = {}  # pulls that wait for each link
        self._window = Window(config.answer_bytes)
        self._failures = Failures(history, config.claims_limit)
        self._moved = 0.0  # when any link that was asked last sent something that was missing
        self._unverified: set[StreamId] = set()  # pulled, and not verified when they were announced
        self._wakes: list[tuple[float, StreamId]] = []  # a heap; entries may be out of date

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "pulls": len(self._pulls),
            "queued_pulls": len(self._window),
            "unverified_pulls": len(self._unverified),
            "announcements": sum(len(pull.announced) for pull in self._pulls.values()),
            "failures": len(self._failures),
            "wakes": len(self._wakes),
        }

    @property
    def wake(self) -> float | None:
        """When to call :meth:`due` next, or None."""
        return self._wakes[0][0] if self._wakes else None

    def is_asked(self, link: int, run: StreamId) -> bool:
        """Whether *link* was asked for *run* and has not finished its answer."""
        pull = self._pulls.get(run)
        return pull is not None and (pull.asked == link or link in pull.owing)

    def is_pulled(self, run: StreamId, now: float) -> bool:
        """Whether somebody sends what is missing of *run*, or is asked for it, or about to be, in time."""
        if self._is_urgent(run, now):
            return False
        pull = self._pulls.get(run)
        if pull is not None and (pull.asked is not None or not pull.owing):
            return True
        return bool(self._pace.under_way(run))

    def asks(self, link: int) -> bool:
        """Whether *link* is asked for anything."""
        return link in self._asked

    def last_sign(self, run: StreamId, now: float) -> float | None:
        """When last something came over a slow line that is missing of *run*, or stands before it.

        :return: None: nothing is due that takes longer than it should.
        """
        pull = self._pulls.get(run)
        signs = [link.repair.last_batch_at for link, _ in self._pace.under_way(run)]
        if pull is not None:
            missing = self._history.head(run) + 1
            # Those that claim it and have a slow line have their turn behind the one that is asked.
            owing = dict.fromkeys(pull.announced, pull.since) if pull.asked is not None else {}
            owing |= pull.owing if pull.asked is None else {**pull.owing, pull.asked: pull.since}
            for link, since in ((self._link(number), since) for number, since in owing.items()):
                low, high = link.frontier.claims.get(run, (1, 0))
                if self._pace.is_slow(link, now):
                    # A link that was asked but claims none of it tells us nothing.
                    signs.append(
                        self._pace.sign(link, since, now)
                        if low <= missing <= high
                        else link.repair.last_batch_at
                    )
            if pull.put_off is not None and self.is_slowed(run[0], now):
                signs.append(self._link(self._parents.of(run[0])).repair.last_batch_at)
            if self._window.is_waiting(run):  # those that it waits for are asked of these
                asked = [link for link in map(self._link, self._asked) if self._pace.is_slow(link, now)]
                signs += [self._pace.sign(link, link.repair.answered_at, now) for link in asked]
        return max(signs, default=None)

    def ask_again(self, run: StreamId, now: float) -> None:
        """What seemed held of *run* is not: ask those who claim to hold it."""
        for link in self._links.fed:
            if link.frontier.holds(run) > self._history.head(run):
                self.announced(link, run, now, eager=True)

    def leaves(self, link: Link, now: float) -> None:
        """The node at *link* is about to stop: ask it now for what it claims and this node lacks."""
        for run in list(link.frontier.claims):
            if link.frontier.holds(run) > self._history.head(run):
                self.announced(link, run, now, eager=True)

    def announced(self, link: Link, run: StreamId, now: float, *, eager: bool) -> None:
        """The claim of *link* on *run* goes beyond what is held here."""
        if (pull := self._pulls.get(run)) is None:
            if not self._is_verified(run):
                if len(self._unverified) >= UNVERIFIED_MOST or link.repair.failures >= TRIES:
                    return  # the next comparison tells again
                self._unverified.add(run)
            pull = self._pulls[run] = Pull()
        due = now if eager else now + max(self._config.graft_timeout, 2 * link.flow.rtt)
        known = pull.announced.setdefault(link.number, deque())
        high = link.frontier.claims[run][1]
        if eager:
            known.clear()
        elif known and known[-1][1] >= high:
            return
        if len(known) == STEPS_MOST:
            known[-1] = (known[-1][0], high)  # a little sooner than its time, rather than without end
            return
        known.append((due, high))
        self._wake(due, run)

    def parent_lost(self, run: StreamId, now: float) -> int | None:
        """The parent of *run* is gone: graft to whoever has the most of it, unasked for or not.

        :return: the link that is asked, which is the way to the origin until there is news over another.
        """
        # The author itself has its newest.  Who is lazy by us had a way of its own to it; who told
        # of it, some way.
        best = max(
            (
                link
                for link in self._links.fed
                if link.frontier_received
                and (run in link.frontier.claims or link.presence.came_from_peer(run[0]))
            ),
            key=lambda link: (
                -self._failures.lately(link, run),
                link.peer.origin == run[0],
                link.frontier.holds(run),
                run[0] in link.push.lazy_by_us,
                link.presence.came_from_peer(run[0]),
            ),
            default=None,
        )
        if best is None:
            return None
        self._failures.forgive(best.number, run)  # there is no better one
        pull = self._pulls.setdefault(run, Pull())
        pull.announced[best.number] = deque([(now, MAX_NUMBER)])
        self._wake(now, run)
        return best.number

    def is_slowed(self, origin: bytes, now: float) -> bool:
        """Whether what *origin* says now may stand in the queue of a slow line to this node."""
        number = self._parents.of(origin)
        parent = None if number is None else self._links.get(number)
        return parent is not None and parent.repair.is_slowed(now) and origin not in parent.push.lazy_by_us

    def pull_from_all(self, runs: Iterable[StreamId], now: float) -> None:
        """*runs* lack something: ask all neighbours where nobody is asked, also those that claim nothing.

        What waits behind holes is not claimed.
        """
        for run in [run for run in runs if not self.is_pulled(run, now)][:PULLED_MOST]:
            self._pull_from_all(run, now)

    def _pull_from_all(self, run: StreamId, now: float) -> None:
        pull = self._pulls.setdefault(run, Pull())
        stream = self._history.get(run)
        for link in self._links.fed:
            low, high = link.frontier.claims.get(run, (1, 0))
            gave_up = stream is not None and low > high >= stream.high  # and has none of it any more
            if link.frontier_received and not gave_up:
                pull.announced[link.number] = deque([(now, MAX_NUMBER)])
        self._wake(now, run)

    def arriving(self, link: Link, now: float) -> StreamId | None:
        """*link* is in the middle of a frame.

        :return: its run, if that is missing here, and the link is the one that should bring it.
        """
        partial = link.repair.partial
        if partial is None:
            return None
        # Links are first in, first out: this frame stands before what is missing, or is it.
        link.repair.last_batch_at = now
        run = partial.run
        if not self._history.lacks(run, partial.first, partial.last) or self._is_urgent(run, now):
            return None
        is_asked = self.is_asked(link.number, run)
        if is_asked:
            pull = self._pulls[run]
            self._resumes(pull, link.number, now)
            pull.progress = self._moved = now
        is_parent = self._parents.of(run[0]) == link.number and run[0] not in link.push.lazy_by_us
        return run if (is_asked or is_parent) and not link.repair.stalled_answers else None

    def arrived(self, link: int, run: StreamId, last: int, now: float) -> None:
        """*link* has brought *run* up to *last*: others need not send that, if there is time to say so."""
        if (pull := self._pulls.get(run)) is None:
            return
        if link in pull.ranges:
            first, end = pull.ranges[link]
            pull.ranges[link] = max(first, min(last, end) + 1), end
        at = max(now, pull.since + LOOK_AGAIN, pull.revised + LOOK_AGAIN)
        if at != pull.revise_at and any(number != link for number in pull.ranges):
            pull.revise_at = at  # once, however many batches come until then
            self._wake(at, run)

    def progressed(self, link: int, run: StreamId, now: float, size: int) -> None:
        """*link*, which was asked, sent something of *run* that was missing here."""
        pull = self._pulls[run]
        self._resumes(pull, link, now)
        pull.progress = self._moved = now
        self._link(link).repair.failures = 0
        if pull.asked == link:
            pull.got += size

    def answered(self, link: int, run: StreamId, now: float) -> None:
        """*link* has closed its answer about *run*."""
        if (pull := self._pulls.get(run)) is None or not self.is_asked(link, run):
            return
        answerer = self._link(link)
        pull.ranges.pop(link, None)
        is_asked = pull.owing.pop(link, None) is None
        known = pull.announced.get(link)
        if known and known[-1][1] == MAX_NUMBER:
            del pull.announced[link]  # the tree is mended, whatever else that brought
        elif is_asked:
            self._window.answered(pull.got)
            self._judge(pull, answerer, run, now)
        if is_asked:
            self._release(pull)
        answerer.repair.answered_at = now
        self._wake(now, run)

    def no_room(self, link: int, run: StreamId) -> None:
        """Something of *run* that *link* brought was not kept: asked at once it would come in circles."""
        if (pull := self._pulls.get(run)) is not None and pull.asked == link:
            pull.full = True

    def link_gone(self, link: int, now: float) -> None:
        """*link* answers nothing any more."""
        for run, pull in self._pulls.items():
            pull.announced.pop(link, None)
            pull.ranges.pop(link, None)
            if pull.owing.pop(link, None) is not None:
                self._wake(now, run)
            if pull.asked == link:
                self._release(pull)
                self._wake(now, run)
        self._failures.forget(link)

    def due(self, now: float) -> list[tuple[Link, Want]]:
        """The WANTs to send now; if many runs are due some are left, and :attr:`wake` says so."""
        wants: list[tuple[Link, Want]] = []
        self._window.narrow(self._pace.bytes_in_time(now))
        while True:
            runs: dict[StreamId, None] = {}
            while self._wakes and self._wakes[0][0] <= now and len(runs) < LOOKS_MOST:
                runs[heappop(self._wakes)[1]] = None
            for run in runs:
                self._look(run, now, wants, may_ask=not self._window.is_waited_for(self._is_verified(run)))
            if (next_run := self._window.next_run()) is not None:
                self._look(next_run, now, wants, may_ask=True)
            elif len(runs) == LOOKS_MOST or not runs:
                return wants

    def _is_verified(self, run: StreamId) -> bool:
        """Whether a signed batch of *run* has come, or a base was told, which no claim can make up."""
        return self._history.get(run) is not None or self._history.head(run) > 0

    def _look(self, run: StreamId, now: float, wants: list[tuple[Link, Want]], *, may_ask: bool) -> None:
        if (pull := self._pulls.get(run)) is None:
            return
        wants += self._revised(pull, run, now)
        if pull.asked is not None and not self._gives_up(pull, run, now):
            return
        if now < pull.not_before:
            self._look_at(pull, run, pull.not_before, now)
            return
        if (stream := self._history.get(run)) is not None and stream.equivocated:
            self._forget(run)
            return
        if (best := self._best(pull, run, now)) is None:
            self._wait(pull, run, now)
            return
        link, want = best
        if self._is_pushed(pull, run, link, want.first, now):
            self._look_at(pull, run, now + LOOK_AGAIN, now)
            return
        counts = want.last < MAX_NUMBER  # else it mends the tree: there may be little behind the head
        verified = self._is_verified(run)
        if counts and not (may_ask and self._window.has_room(verified)):
            self._window.wait(run, verified, link.number)
            return
        self._window.drop(run)
        pull.full, pull.put_off = False, None
        pull.window = verified if counts else None
        if counts:
            self._window.asked(verified)
        pull.ranges[link.number] = want.first, want.last
        self._ask(pull, link, now)
        self._look_at(pull, run, self._stalls_at(pull, link, now), now)
        wants.append(best)

    def _revised(self, pull: Pull, run: StreamId, now: float) -> Iterator[tuple[Link, Want]]:
        """WANTs in place of those of which the first messages came another way."""
        if now < pull.revised + LOOK_AGAIN:
            return
        pull.revised = now
        stream = self._history.get(run)
        for number, (first, last) in list(pull.ranges.items()):
            if not first <= last < MAX_NUMBER:
                continue
            left = None if stream is None else stream.next_missing(first, last)
            if stream is not None and (left is None or left[0] > first):
                pull.ranges[number] = first, last = (last + 1, last) if left is None else (left[0], last)
                yield self._link(number), Want(*run, first, last, graft=False)

    def _wait(self, pull: Pull, run: StreamId, now: float) -> None:
        """Nobody is to be asked for *run* now: look again when that may be otherwise, or forget it."""
        later = [due for known in pull.announced.values() for due, _ in known if due > now]
        if pull.announced and self._pace.under_way(run):
            later.append(now + LOOK_AGAIN)
        verified = self._is_verified(run)
        for number, since in pull.owing.items():
            link = self._link(number)
            if verified or link.repair.failures < TRIES:
                later.append(self._owes_until(since, link, now))
        later = [at for at in later if at > now]
        if later:
            self._look_at(pull, run, min(later), now)
        else:
            self._forget(run)

    def _gives_up(self, pull: Pull, run: StreamId, now: float) -> bool:
        """Whether another link may be asked than the one that is."""
        assert pull.asked is not None
        link = self._link(pull.asked)
        patient_until = pull.since + self._config.gap_patience
        if pull.window is not None and now >= patient_until:
            self._window.released(pull.window)  # others need not wait for it
            pull.window = None
        if self._is_urgent(run, now):
            if now < patient_until:
                self._look_at(pull, run, patient_until, now)
                return False
            link.repair.stalled_answers += 1
            pull.owing[link.number] = now
            self._release(pull)
            return True
        stalls_at = self._stalls_at(pull, link, now)
        if now >= stalls_at and not self._pace.is_patient(pull.progress, now):
            self._failures.note(link, run)
            link.repair.stalled_answers += pull.got > 0
        else:
            best = self._best(pull, run, now)
            if best is None or not self._pace.is_outrun(link, best[0], pull.since, pull.got, now):
                look_at = min(stalls_at, self._pace.outrun_at(link, pull.since, pull.got, now))
                self._look_at(pull, run, look_at if look_at > now else now + LOOK_AGAIN, now)
                return False
            link.repair.stalled_answers += 1
        pull.owing[link.number] = now
        self._release(pull)
        return True

    def _is_urgent(self, run: StreamId, now: float) -> bool:
        """Whether *run* has a hole so old that slow lines have had their time.

        All that is known of them is unsigned: a peer that drips, and ends other answers meanwhile, seems
        to be at it.  In the time that is left each link that claims what is missing is asked in turn.
        """
        stream = self._history.get(run)
        since = None if stream is None else stream.hole_since
        return since is not None and now >= since + _URGENT * self._config.gap_longest

    def _stalls_at(self, pull: Pull, link: Link, now: float) -> float:
        """Until when the asked link may be silent.

        A link is first in, first out: while it brings other batches it is on its way to this one.
        And all links share this node's line: while answers come over others it may be this line's
        fault.  But only so long, or a peer could keep a run from being repaired by sending others;
        unless its line is slow: then its pace decides.
        """
        patience = max(self._config.graft_retry, _ROUND_TRIPS * link.flow.rtt, self._pace.silence(link))
        moved = max(pull.progress, link.repair.last_batch_at, self._moved) + patience
        return moved if link.repair.is_slowed(now) else min(moved, pull.progress + _PATIENT * patience)

    def _owes_until(self, since: float, link: Link, now: float) -> float:
        """Until when a link that was given up at *since* is not asked again: its answer may still come."""
        return max(since, link.repair.last_batch_at) + self._pace.answers_within(link, now)

    def _is_pushed(self, pull: Pull, run: StreamId, link: Link, first: int, now: float) -> bool:
        """Whether the parent of *run* has a slow line, and is about to bring *first*, which *link* claims.

        A parent that claims it, too, is not: then it could not push it.
        """
        if not self.is_slowed(run[0], now) or self._is_urgent(run, now):
            return False
        parent = self._link(self._parents.of(run[0]))
        if parent is link or parent.frontier.holds(run) >= first:
            return False
        if pull.put_off is None:
            pull.put_off = now
        return not self._pace.is_outrun(parent, link, pull.put_off, 0, now)

    def _ask(self, pull: Pull, link: Link, now: float) -> None:
        pull.asked, pull.since, pull.progress, pull.got = link.number, now, now, 0
        if link.number not in self._asked:
            link.repair.answered_at = now
        self._asked[link.number] = self._asked.get(link.number, 0) + 1

    def _resumes(self, pull: Pull, link: int, now: float) -> None:
        """*link* was given up, and brings something after all."""
        if pull.asked is None and pull.owing.pop(link, None) is not None:
            pull.window = None
            self._ask(pull, self._link(link), now)

    def _judge(self, pull: Pull, link: Link, run: StreamId, now: float) -> None:
        """*link* has answered: what that says of it."""
        if pull.got:
            self._pace.answered(link, pull.got, pull.since, now)
        elif pull.full:
            link.repair.stalled_answers += 1  # it has not failed, but others are asked first
            pull.not_before = now + self._config.graft_retry
        else:
            self._failures.note(link, run)

    def _forget(self, run: StreamId) -> None:
        del self._pulls[run]
        self._unverified.discard(run)
        self._window.drop(run)

    def _best(self, pull: Pull, run: StreamId, now: float) -> tuple[Link, Want] | None:
        """The announcer of the lowest range that is missing; of several the one with the most."""
        head = self._history.head(run)
        # Once for all of them: a HAVE makes this node look at a thousand runs.
        under_way = [] if self._is_urgent(run, now) else self._pace.under_way(run)
        best: tuple[tuple[int, int, bool, int, int], Link, Want] | None = None
        for number, known in list(pull.announced.items()):
            link = self._links.get(number)
            failures = self._failures.of(number, run)
            claims = known[-1][1] < MAX_NUMBER  # a graft is for the author's sake, whatever is claimed
            made_up = (
                link is not None and claims and link.repair.failures >= TRIES and not self._is_verified(run)
            )
            if link is None or link.closing or failures >= TRIES or made_up:
                del pull.announced[number]
                continue
            if number == pull.asked or self._still_owes(pull, link, now):
                continue
            due = 0
            while known and known[0][0] <= now:
                due = known.popleft()[1]
            if due:
                known.appendleft((now, due))
            if (missing := self._missing(link, run, head, due)) is None:
                if due and len(known) == 1:
                    del pull.announced[number]
                continue
            missing = self._besides(run, missing, self._pace.passed(under_way, link, now))
            if missing is None:
                continue
            first, last = missing
            # Who failed before is asked last: a false claim is always the highest.
            failures += link.repair.failures + link.repair.stalled_answers
            rank = (first, failures, self._pace.is_much_slower(link), self._asked.get(number, 0), -last)
            if best is None or rank < best[0]:
                best = rank, link, Want(*run, first, last, graft=True)  # who is asked may push from now on
        return None if best is None else (best[1], best[2])

    def _still_owes(self, pull: Pull, link: Link, now: float) -> bool:
        """Whether *link* was asked before, and what it was asked for may still come."""
        if (since := pull.owing.get(link.number)) is None:
            return False
        if self._owes_until(since, link, now) > now:
            return True
        del pull.owing[link.number]
        return False

    def _besides(
        self, run: StreamId, missing: tuple[int, int], passed: list[tuple[int, int]]
    ) -> tuple[int, int] | None:
        """Of a range that is missing the lowest part that is not among *passed*, which are sorted."""
        stream = self._history.get(run)
        first, last = missing
        for begin, end in passed:
            if begin > first:
                last = min(last, begin - 1)
            elif end >= first:
                rest = (end + 1, last) if stream is None else stream.next_missing(end + 1, last)
                if rest is None:
                    return None
                first, last = rest
        return (first, last) if first <= last else None

    def _missing(self, link: Link, run: StreamId, head: int, due: int) -> tuple[int, int] | None:
        if not due:
            return None
        stream = self._history.get(run)
        if due == MAX_NUMBER:  # a graft: what is missing, or else whatever there is behind the head
            hole = None if stream is None else stream.next_missing(head + 1, stream.high)
            return hole or (head + 1, MAX_NUMBER)
        if (claim := link.frontier.claims.get(run)) is None:
            return None
        low, high = claim[0], min(claim[1], due)
        if stream is not None:
            return stream.next_missing(low, high)
        first = max(low, head + 1)
        return (first, high) if first <= high else None

    def _release(self, pull: Pull) -> None:
        """The asked link is asked no more."""
        assert pull.asked is not None
        left = self._asked.get(pull.asked, 1) - 1
        if left:
            self._asked[pull.asked] = left
        else:
            self._asked.pop(pull.asked, None)
        if pull.window is not None:
            self._window.released(pull.window)
        pull.asked = None

    def _link(self, number: int | None) -> Link:
        """The link that is asked; one that goes is asked no more (:meth:`link_gone`)."""
        link = None if number is None else self._links.get(number)
        assert link is not None
        return link

    def _look_at(self, pull: Pull, run: StreamId, at: float, now: float) -> None:
        """Look at *pull* again at the time *at*, unless that is done sooner: looks would else multiply."""
        if not now < pull.look_at <= at:
            pull.look_at = at
            self._wake(at, run)

    def _wake(self, at: float, run: StreamId) -> None:
        heappush(self._wakes, (at, run))

"""Repair: getting what others have and this node misses, once and from one link at a time.

Contract: :meth:`Repair.announced` is told of every claim that goes beyond what is held here;
:meth:`Repair.due` says which WANTs to send now and :attr:`Repair.wake` when to look again.  Rules, each
with what goes wrong without it:

* an announcement on a quiet link is given ``graft_timeout``, since the push is probably on its way over
  the tree; on any other link the peer could not push, so it is asked for at once;
* a stream has one asked link at a time; the next is asked after the closing HAVE, or when nothing came
  for a while: by progress, not by clock, or a slow line gets the same data from everyone;
* who brings a trickle that never stalls is given up, too, and asked after the others from then on: it
  would else hold up a run for as long as it likes;
* an announcer that failed three times for a range is not asked again for it: claims are unsigned, and
  a false one would be asked for ever;
* what is known by hearsay alone (no signed batch of the run came) waits in a line of its own, and not
  behind a link that leaves its WANTs unanswered: made-up runs would else hold up the real ones;
* a lost link grafts at once every origin whose parent it was: waiting for an announcement costs
  ``have_delay`` and ``graft_timeout`` on top.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Run
from twisted_mesh.core.failures import TRIES, Failures
from twisted_mesh.core.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.window import Window
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.native import Want

HEARSAY_MOST: Final = 1024  # runs known by hearsay alone that are pulled at a time (guess)
STEPS_MOST: Final = 8  # announcements of a link on a run that ripen one after the other (guess)
_ROUND_TRIPS: Final = 4  # without progress, before another link is asked
_PATIENT: Final = 5  # times that, where the link brings other things meanwhile
_TRICKLE_SECONDS: Final = 5.0  # an answer may take so long, and longer if it brings more than
_TRICKLE_BYTES: Final = 4096  # so many bytes a second that were missing (guess: a modem's)


class Pull:
    """The repair of one run.

    :ivar asked: the link that was asked, or None.
    :ivar since: when it was asked; :ivar progress: then, or when it last sent something that was missing.
    :ivar got: bytes it has sent since; :ivar window: whether it is in the one of proven runs, or that
        of others; None: in neither, since it mends the tree.
    """

    __slots__ = ("announced", "asked", "got", "not_before", "progress", "since", "window")

    def __init__(self) -> None:
        self.announced: dict[int, deque[tuple[float, int]]] = {}  # link -> (when ripe, high)
        self.asked: int | None = None
        self.since = self.progress = 0.0
        self.got = 0
        self.window: bool | None = None
        self.not_before = 0.0


class Repair:
    """The pulls of a node."""

    def __init__(self, history: History, links: Links, config: MeshConfig) -> None:
        self._history = history
        self._links = links
        self._config = config
        self._pulls: dict[Run, Pull] = {}
        self._asked: dict[int, int] = {}  # pulls that wait for each link
        self._window = Window(config.answer_bytes)
        self._failures = Failures(history, config.claims_limit)
        self._moved = 0.0  # when any link that was asked last sent something that was missing
        self._hearsay: set[Run] = set()  # pulled, and not proven when they were announced
        self._wakes: list[tuple[float, Run]] = []  # a heap; entries may be out of date

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "pulls": len(self._pulls),
            "queued_pulls": len(self._window),
            "hearsay": len(self._hearsay),
            "announcements": sum(len(pull.announced) for pull in self._pulls.values()),
            "failures": len(self._failures),
            "wakes": len(self._wakes),
        }

    @property
    def wake(self) -> float | None:
        """When to call :meth:`due` next, or None."""
        return self._wakes[0][0] if self._wakes else None

    def is_asked(self, link: int, run: Run) -> bool:
        """Whether *link* was asked for *run* and has not finished its answer."""
        pull = self._pulls.get(run)
        return pull is not None and pull.asked == link

    def is_pulled(self, run: Run) -> bool:
        """Whether somebody is asked for what is missing of *run*, or about to be."""
        return run in self._pulls

    def asks(self, link: int) -> bool:
        """Whether *link* is asked for anything."""
        return link in self._asked

    def ask_again(self, run: Run, now: float) -> None:
        """What seemed held of *run* is not: ask those who claim to hold it."""
        for link in self._links.fed:
            if link.holds(run) > self._history.head(run):
                self.announced(link, run, now, debt=True)

    def announced(self, link: Link, run: Run, now: float, *, debt: bool) -> None:
        """The claim of *link* on *run* goes beyond what is held here."""
        pull = self._pulls.get(run)
        if pull is None:
            if not self._is_proven(run):
                if len(self._hearsay) >= HEARSAY_MOST or link.failures >= TRIES:
                    return  # the next comparison tells again
                self._hearsay.add(run)
            pull = self._pulls[run] = Pull()
        ripe = now if debt else now + max(self._config.graft_timeout, 2 * link.rtt)
        known = pull.announced.setdefault(link.number, deque())
        high = link.claims[run][1]
        if debt:
            known.clear()
        elif known and known[-1][1] >= high:
            return
        if len(known) == STEPS_MOST:
            known[-1] = (known[-1][0], high)  # a little sooner than its time, rather than without end
            return
        known.append((ripe, high))
        self._wake(ripe, run)

    def orphaned(self, run: Run, now: float) -> int | None:
        """The parent of *run* is gone: graft to whoever has the most of it, unasked for or not.

        :return: the link that is asked, which is the way to the origin until there is news over another.
        """
        # Who was told to be quiet had a way of its own to the origin; who told of it, some way.
        best = max(
            (
                link
                for link in self._links.fed
                if link.told and (run in link.claims or link.has_told(run[0]))
            ),
            key=lambda link: (
                not self._failures.has_failed(link, run),
                link.holds(run),
                run[0] in link.quiet,
                link.has_told(run[0]),
            ),
            default=None,
        )
        if best is None:
            return None
        self._failures.forgive(best.number, run)  # there is no better one
        pull = self._pulls.get(run)
        if pull is None:
            pull = self._pulls[run] = Pull()
        pull.announced[best.number] = deque([(now, MAX_NUMBER)])
        self._wake(now, run)
        return best.number

    def seek(self, run: Run, now: float) -> None:
        """*run*, which is not pulled, lacks what nobody claims: what waits behind holes is not claimed."""
        pull = self._pulls[run] = Pull()
        for link in self._links.fed:
            if link.told:
                pull.announced[link.number] = deque([(now, MAX_NUMBER)])
        self._wake(now, run)

    def progressed(self, link: int, run: Run, now: float, size: int) -> None:
        """*link*, which was asked, sent something of *run* that was missing here."""
        pull = self._pulls[run]
        pull.progress = self._moved = now
        pull.got += size
        self._link(link).failures = 0

    def answered(self, link: int, run: Run, now: float) -> None:
        """*link* has closed its answer about *run*."""
        pull = self._pulls.get(run)
        if pull is not None and pull.asked == link:
            known = pull.announced.get(link)
            if known and known[-1][1] == MAX_NUMBER:
                del pull.announced[link]  # the tree is mended, whatever else that brought
            else:
                self._window.answered(pull.got)
                if not pull.got:
                    self._failures.note(self._link(link), run)
            self._release(pull)
            self._wake(now, run)

    def no_room(self, run: Run, now: float) -> None:
        """Something of *run* could not be kept: asking on at once would go in circles."""
        pull = self._pulls.get(run)
        if pull is not None:
            pull.not_before = now + self._config.graft_retry

    def link_gone(self, link: int, now: float) -> None:
        """*link* answers nothing any more."""
        for run, pull in self._pulls.items():
            pull.announced.pop(link, None)
            if pull.asked == link:
                self._release(pull)
                self._wake(now, run)
        self._failures.forget(link)

    def due(self, now: float) -> list[tuple[Link, Want]]:
        """The WANTs to send now."""
        wants: list[tuple[Link, Want]] = []
        while True:
            runs: dict[Run, None] = {}
            while self._wakes and self._wakes[0][0] <= now:
                runs[heappop(self._wakes)[1]] = None
            for run in runs:
                self._look(run, now, wants, may_ask=not self._window.is_waited_for(self._is_proven(run)))
            next_run = self._window.next_run()
            if next_run is not None:
                self._look(next_run, now, wants, may_ask=True)
            elif not runs:
                return wants

    def _is_proven(self, run: Run) -> bool:
        """Whether a signed batch of *run* has come, or a base was told, so that it is no hearsay."""
        return self._history.get(run) is not None or self._history.head(run) > 0

    def _look(self, run: Run, now: float, wants: list[tuple[Link, Want]], *, may_ask: bool) -> None:
        pull = self._pulls.get(run)
        if pull is None:
            return
        if pull.asked is not None:
            deadline = self._deadline(pull, pull.asked)
            if now < deadline:
                self._wake(deadline, run)
                return
            link = self._link(pull.asked)
            self._failures.note(link, run)
            link.trickles += pull.got > 0
            self._release(pull)
        if now < pull.not_before:
            self._wake(pull.not_before, run)
            return
        stream = self._history.get(run)
        if stream is not None and stream.equivocated:
            self._forget(run)
            return
        best = self._best(pull, run, now)
        if best is not None:
            link, want = best
            counts = want.last < MAX_NUMBER  # else it mends the tree: there may be little behind the head
            proven = self._is_proven(run)
            if counts and not (may_ask and self._window.has_room(proven)):
                self._window.wait(run, proven)
                return
            self._window.drop(run)
            pull.asked, pull.since, pull.progress, pull.got = link.number, now, now, 0
            pull.window = proven if counts else None
            if counts:
                self._window.asked(proven)
            self._asked[link.number] = self._asked.get(link.number, 0) + 1
            self._wake(self._deadline(pull, link.number), run)
            wants.append(best)
            return
        later = [ripe for known in pull.announced.values() for ripe, _ in known if ripe > now]
        if later:
            self._wake(min(later), run)
        else:
            self._forget(run)

    def _forget(self, run: Run) -> None:
        del self._pulls[run]
        self._hearsay.discard(run)
        self._window.drop(run)

    def _best(self, pull: Pull, run: Run, now: float) -> tuple[Link, Want] | None:
        """The announcer of the lowest range that is missing; of several the one with the most."""
        head = self._history.head(run)
        best: tuple[tuple[int, int, int, int], Link, Want] | None = None
        for number, known in list(pull.announced.items()):
            link = self._links.get(number)
            failures = self._failures.of(number, run)
            claims = known[-1][1] < MAX_NUMBER  # a graft is for the author's sake, whatever is claimed
            hearsay = link is not None and claims and link.failures >= TRIES and not self._is_proven(run)
            if link is None or link.closing or failures >= TRIES or hearsay:
                del pull.announced[number]
                continue
            ripe = 0
            while known and known[0][0] <= now:
                ripe = known.popleft()[1]
            if ripe:
                known.appendleft((now, ripe))
            missing = self._missing(link, run, head, ripe)
            if missing is None:
                if ripe and len(known) == 1:
                    del pull.announced[number]
                continue
            first, last = missing
            # Who failed before is asked last: a false claim is always the highest.
            rank = (first, failures + link.failures + link.trickles, self._asked.get(number, 0), -last)
            if best is None or rank < best[0]:
                best = rank, link, Want(*run, first, last, graft=True)  # who is asked may push from now on
        return None if best is None else (best[1], best[2])

    def _missing(self, link: Link, run: Run, head: int, ripe: int) -> tuple[int, int] | None:
        if not ripe:
            return None
        stream = self._history.get(run)
        if ripe == MAX_NUMBER:  # a graft: what is missing, or else whatever there is behind the head
            hole = None if stream is None else stream.next_missing(head + 1, stream.high)
            return hole or (head + 1, MAX_NUMBER)
        claim = link.claims.get(run)
        if claim is None:
            return None
        low, high = claim[0], min(claim[1], ripe)
        if stream is not None:
            return stream.next_missing(low, high)
        first = max(low, head + 1)
        return (first, high) if first <= high else None

    def _deadline(self, pull: Pull, number: int) -> float:
        """Until when the asked link may be silent.

        A link is first in, first out: while it brings other batches it is on its way to this one.
        And all links share this node's line: while answers come over others it may be this line's
        fault.  But only so long, or a peer could keep a run from being repaired by sending others.
        """
        link = self._link(number)
        patience = max(self._config.graft_retry, _ROUND_TRIPS * link.rtt)
        moved = max(pull.progress, link.fetched, self._moved)
        trickle = pull.since + _TRICKLE_SECONDS + pull.got / _TRICKLE_BYTES
        return min(moved + patience, pull.progress + _PATIENT * patience, trickle)

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

    def _link(self, number: int) -> Link:
        """The link that is asked; one that goes is asked no more (:meth:`link_gone`)."""
        link = self._links.get(number)
        assert link is not None
        return link

    def _wake(self, at: float, run: Run) -> None:
        heappush(self._wakes, (at, run))

"""Which link to ask for the missing messages of a run, and for which of them.

Contract: this node asks with a WANT, and the peer's *answer* is batches, and a HAVE that ends it.  A peer's
*claim* to hold messages is unsigned, so it decides only which link is asked.  The rules, each with its
reason:

* a link that left :data:`TRIES` WANTs for a range unanswered is not asked for that range again: otherwise
  a link with a false claim would be asked for ever;
* of links whose missing range begins at the same message, those that failed lately are asked last:
  otherwise the highest claim would win, and a false claim can always be the highest;
* a link that was asked is not asked again while its answer may still come: a link loses nothing, so all
  messages would come twice;
* messages that already come over a link in an unfinished frame are not asked for, unless that takes too
  long (:mod:`~twisted_mesh.core.broadcast.pace`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_mesh.core.broadcast.pace import Pace
from twisted_mesh.core.broadcast.pull import Pull
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.wire.broadcast import Want
from twisted_mesh.wire.fields import MAX_NUMBER

TRIES: Final = 3  # WANTs to one link for one range

Range = tuple[int, int]
"""The first and the last of some messages."""


class Candidates:
    """The links of a node that may be asked."""

    def __init__(self, history: History, links: Links, pace: Pace, limit: int) -> None:
        """:param limit: the most runs of which the failures of one link are remembered."""
        self._history = history
        self._links = links
        self._pace = pace
        self._limit = limit

    def failures(self, link: Link, run: StreamId) -> int:
        """How often *link* has failed to send the messages of *run* that are missing now.

        A failure does not count any more once the head of the run has moved.
        """
        head, times = link.repair.failed.get(run, (0, 0))
        return times if head == self._history.head(run) else 0

    def note_failure(self, link: Link, run: StreamId) -> None:
        """Note that *link* has not sent messages of *run* for which it was asked."""
        times = self.failures(link, run) + 1
        failed = link.repair.failed
        failed[run] = self._history.head(run), times
        failed.move_to_end(run)
        if len(failed) > self._limit:
            failed.popitem(last=False)
        link.repair.failures += 1

    def best(self, pull: Pull, now: float) -> tuple[Link, Want] | None:
        """The link to ask for the lowest missing range, and the WANT; None if no link can be asked.

        Announcements of links that cannot bring anything are forgotten.
        """
        run = pull.run
        # Computed once for all links, for speed: one HAVE can make this node look at a thousand runs.
        under_way = [] if self._pace.is_urgent(run, now) else self._pace.under_way(run)
        best: tuple[tuple[int, int, tuple[bool, bool], int, int], Link, Want] | None = None
        for number in list(pull.announced):
            link = self._links.get(number)
            if link is None or link.closing or self.is_hopeless(pull, link):
                del pull.announced[number]
                continue
            if number == pull.asked or self._owes(pull, link, now):
                continue
            due = pull.due(number, now)
            if (missing := self._missing(link, run, due)) is None:
                if due and len(pull.announced[number]) == 1:
                    del pull.announced[number]
                continue
            missing = self._without(run, missing, self._pace.passed(under_way, link, now))
            if missing is None:
                continue
            first, last = missing
            failures = self.failures(link, run) + link.repair.failures + link.repair.stalled_answers
            is_slow = self._pace.is_known_slow(link, now), self._pace.is_much_slower(link)
            rank = (first, failures, is_slow, link.repair.pulls, -last)
            if best is None or rank < best[0]:
                best = rank, link, Want(*run, first, last, graft=True)  # the link may push from now on
        return None if best is None else best[1:]

    def ways_to(self, run: StreamId, now: float) -> list[Link]:
        """The links that may lead to the author of *run*, whose former parent is lost; the best first."""
        # Best is a link to the author.  A peer that is lazy by us had its own way to the author, and a peer
        # that sent a record of the author had some way.
        return sorted(
            (
                link
                for link in self._links.fed
                if link.frontier_received
                and (run in link.frontier.claims or link.presence.came_from_peer(run[0]))
            ),
            key=lambda link: (
                max(link.repair.failures, self.failures(link, run)),
                link.peer.origin != run[0],
                self._pace.is_known_slow(link, now),
                -link.frontier.holds(run),
                run[0] not in link.push.lazy_by_us,
                not link.presence.came_from_peer(run[0]),
            ),
        )

    def is_hopeless(self, pull: Pull, link: Link) -> bool:
        """Whether *link* failed too often: at this run, or at others too if no message of this one came."""
        if self.failures(link, pull.run) >= TRIES:
            return True
        failing = link.repair.failures >= TRIES and not pull.is_graft(link.number)
        return failing and not self._history.is_known(pull.run)

    def _owes(self, pull: Pull, link: Link, now: float) -> bool:
        """Whether *link* was given up, and its answer may still come."""
        if (since := pull.owing.get(link.number)) is None:
            return False
        if self._pace.owes_until(link, since, now) > now:
            return True
        del pull.owing[link.number]
        return False

    def _missing(self, link: Link, run: StreamId, due: int) -> Range | None:
        """The lowest missing range up to *due* that *link* claims.

        If *due* is :data:`MAX_NUMBER`, the link is asked by a graft, and needs no claim.
        """
        if not due:
            return None
        stream, head = self._history.get(run), self._history.head(run)
        if due == MAX_NUMBER:
            hole = None if stream is None else stream.next_missing(head + 1, stream.high)
            return hole or (head + 1, MAX_NUMBER)
        if (claim := link.frontier.claims.get(run)) is None:
            return None
        return self._history.next_missing(run, claim[0], min(claim[1], due))

    def _without(self, run: StreamId, missing: Range, passed: Iterable[Range]) -> Range | None:
        """The lowest part of *missing* that is in none of *passed*, which are sorted."""
        first, last = missing
        for begin, end in passed:
            if begin > first:
                last = min(last, begin - 1)
            elif end >= first:
                if (rest := self._history.next_missing(run, end + 1, last)) is None:
                    return None
                first, last = rest
        return (first, last) if first <= last else None

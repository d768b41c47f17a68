"""What each author may take of this node's time and room while others wait for it.

Contract: shares are no caps.  They bind only if another author that is within its share has sent messages
lately, and this node is *late*: its timers fire too late, so that frames wait.  Then a frame of an author
that is over its share is refused: it is not verified, not kept and not relayed, and the link is not to
blame.  Messages are asked for later, once the author is within its share again or nobody waits.  An answer
that this node has asked for is never refused, but it counts.

Only verified frames count, so nobody can use up the share of another author.  A known author
(:mod:`~twisted_mesh.core.authors`) has a share of its own, and so has a new one.  All new ones together
have one share of the processor; as much again is kept for the authors of sites that bring few.  A neighbour
that the application named is known.

While no author is known, as at a node that has just begun, all count as known.  But since keys cost
nothing, the authors that one site introduced are a *crowd* then: while authors of other sites wait, all of
them have together the time of one known author.  Half of it is for those that the site introduced first, so
that authors behind an honest relay do not wait for those that an attacker makes up there later.  Neighbours
that the application named, and this host, bring no crowds.

The mesh's authority may lower what a known author may publish, by a *quota*.  It does not bind records and
direct messages, so no member seems gone by it, and no answer is late.  Other nodes hold the messages that a
quota puts off, but only for some time, their author's own *retention* among others, and as far as they have
room.  So while this node is late without a break, a quota binds for a small part of that time and room, and
then only the share does.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from math import ceil, inf
from typing import Final
from typing import Protocol as Interface

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import UNMET, Authors
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import is_own_site, site_of
from twisted_mesh.network import Quotas
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Presence

LASTING: Final = 10.0  # seconds for which an author counts as waiting, and a late node as late (guess)
LOOK: Final = 0.02  # seconds from one look whether this node is late to the next (guess)
LATE: Final = 0.004  # seconds by which a timer of a late node is late (measured: 1 ms in calm)
PUT_OFF: Final = 0.5  # seconds until it is decided anew whether to ask for messages (guess)
#: Known authors that are counted, and as many new ones; of each the longest idle is forgotten (guess).
ACCOUNTS: Final = 4096
SITES: Final = 1024  # sites whose new authors are counted; the longest idle is forgotten (guess)
_FEW: Final = 16  # a site that uses up to a sixteenth of what all new authors have uses few (guess)
#: Seconds of a verification, of a message and of a byte: about half of what was measured, so that nodes
#: that share a processor evenly are within their shares.
_VERIFY, _MESSAGE, _BYTE = 200e-6, 0.5e-6, 2e-9
_ROOM_IN_A_ROW: Final = 2.0  # the bytes of so many seconds may come in a row (guess)
_TIME_IN_A_ROW: Final = 0.25  # so may the work of so many seconds (guess)
_DEBT: Final = 10.0  # answers, and what came while nobody waited, count up to so many seconds (guess)
_LEAST: Final = 1e-9  # more than nothing
_IN_A_ROW: Final = 2.0  # a quota lets the batches of so many seconds come in a row (guess)
_OF_LAST: Final = 1 / 8  # the part of the last batch in the average size of an author's (guess)
#: While this node is late without a break, a quota holds an author back for this part of ``history_bytes``
#: and of the time for which this node and the author hold messages (guess).
QUOTA_PART: Final = 1 / 16


class Kind(IntEnum):
    """A thing of which an author may bring so many in a row, and in a second."""

    BATCH = 2
    RUN = 3  #: the first batch of a run
    RECORD = 4
    DIRECT = 5


_PUBLISHED: Final = (Kind.BATCH, Kind.RUN)  # the kinds to which quotas apply
_TIME, _ROOM = 0, 1  # in an _Account, places before those of Kind


class _Weights:
    """What one author may bring: time, bytes, and things of each :class:`Kind`, in this order.

    :ivar costs: seconds in which one more may come; :ivar burst: seconds' worth that may come in a row.
    """

    def __init__(self, time: float, room: float, *things: tuple[float, float]) -> None:
        """
        :param time: seconds of the processor in a second; :param room: bytes in a second.
        :param things: of each kind, how many in a row, and in a second.
        """
        self.costs = [1 / time, 1 / room, *(1 / rate for _, rate in things)]
        self.burst = [_TIME_IN_A_ROW, _ROOM_IN_A_ROW, *(most / rate for most, rate in things)]


class _Account:
    """What one author may still bring.

    It notes when all that came will have been earned, a time for each thing: nothing has to be filled up.
    """

    __slots__ = ("_earned", "_weights")

    def __init__(self, weights: _Weights) -> None:
        self._weights = weights
        self._earned = [-inf] * len(weights.costs)

    def has(self, kind: Kind, now: float) -> bool:
        """Whether one more thing of *kind* may come."""
        earned, weights = self._earned, self._weights
        burst = weights.burst
        return (
            earned[_TIME] < now + burst[_TIME]
            and earned[_ROOM] < now + burst[_ROOM]
            and earned[kind] + weights.costs[kind] <= now + burst[kind]
            and (kind is not Kind.RUN or self.has(Kind.BATCH, now))
        )

    def batches(self, now: float) -> int:
        """How many batches may come."""
        if not self.has(Kind.BATCH, now):
            return 0
        return min(int(self._left(Kind.BATCH, now)), ceil(self._left(_TIME, now) / _VERIFY))

    def spend(self, kind: Kind, size: int, time: float, now: float, things: int = 1) -> None:
        """Count *things* of *kind*, of *size* bytes together, that take *time*."""
        self._spend(_TIME, time, now)
        self._spend(_ROOM, size, now)
        self._spend(kind, things, now)
        if kind is Kind.RUN:
            self._spend(Kind.BATCH, 1, now)

    def refused(self, size: int) -> None:
        """Note that a frame of *size* bytes, which was over the share, was refused."""

    def free(self) -> bool:
        """Let the quota bind no more while this node is late; return whether there is one."""
        return False

    def _left(self, place: int, now: float) -> float:
        seconds = now + self._weights.burst[place] - max(now, self._earned[place])
        return seconds / self._weights.costs[place]

    def _spend(self, place: int, amount: float, now: float) -> None:
        weights, earned = self._weights, self._earned[place]
        earned = (earned if earned > now else now) + amount * weights.costs[place]
        most = now + weights.burst[place] + _DEBT
        self._earned[place] = earned if earned < most else most


class _Lateness:
    """Whether a node is late.

    :ivar since: when the time began in which it is late, or was; :ivar until: when that ends.
    """

    __slots__ = ("since", "until")

    def __init__(self) -> None:
        self.since = self.until = -inf


class _Recorded(Interface):
    """An author whose record is known."""

    presence: Presence


class Records(Interface):
    """The newest records of authors."""

    def get(self, origin: bytes) -> _Recorded | None:
        """The author with that origin; None if no record of it is known."""


class _Quotas:
    """The quotas of authors, and when they bind.

    :ivar lateness: that of this node.
    :ivar most: bytes of an author that its quota holds back while this node is late without a break.
    """

    def __init__(self, lateness: _Lateness, records: Records, config: MeshConfig) -> None:
        self.lateness = lateness
        self.most = config.history_bytes * QUOTA_PART
        self._records = records
        self._config = config
        self.all: Quotas = {}

    def longest(self, origin: bytes) -> float:
        """For how many seconds a quota holds *origin* back while this node is late without a break."""
        record = self._records.get(origin)
        held = 0 if record is None else record.presence.retention  # at least by *origin* itself
        return min(held, self._config.history_seconds) * QUOTA_PART

    def account(self, origin: bytes, weights: _Weights) -> _Account:
        """A new account of the known author *origin*, with its quota, if it has one."""
        quota = self.all.get(origin) or self.all.get(b"")
        if quota is None:
            return _Account(weights)
        batches, size = quota
        rates = float(batches or self._config.known_batches), float(size or self._config.known_bytes)
        return _QuotaAccount(weights, self, origin, *rates)


class _QuotaAccount(_Account):
    """What one author with a quota may still bring."""

    __slots__ = ("_batches", "_bytes", "_held_back", "_late_since", "_origin", "_quotas", "_typical")

    def __init__(
        self, weights: _Weights, quotas: _Quotas, origin: bytes, batches: float, size: float
    ) -> None:
        """:param batches: in a second; :param size: bytes in a second."""
        super().__init__(weights)
        self._quotas, self._origin = quotas, origin
        self._batches = RateLimit(_IN_A_ROW * batches, batches, _DEBT)
        self._bytes = RateLimit(_ROOM_IN_A_ROW * size, size, _DEBT)
        self._typical = 0.0  # bytes of a batch, on average over the last ones
        self._late_since, self._held_back = -inf, 0  # the bytes that were refused since that time

    def has(self, kind: Kind, now: float) -> bool:
        if not super().has(kind, now):
            return False
        if kind not in _PUBLISHED or not self._binds(now):
            return True
        return self._batches.has(now) and self._bytes.left(now) > 0

    def batches(self, now: float) -> int:
        most = super().batches(now)
        if not most or not self._binds(now):
            return most
        most = min(most, int(self._batches.left(now)))
        return min(most, ceil(self._bytes.left(now) / self._typical)) if self._typical else most

    def spend(self, kind: Kind, size: int, time: float, now: float, things: int = 1) -> None:
        super().spend(kind, size, time, now, things)
        if kind in _PUBLISHED:
            self._batches.spend(now)
            self._bytes.spend(now, size)
            self._typical += (size - self._typical) * (_OF_LAST if self._typical else 1)

    def refused(self, size: int) -> None:
        if self._late_since != self._quotas.lateness.since:
            self._late_since, self._held_back = self._quotas.lateness.since, 0
        self._held_back += size

    def free(self) -> bool:
        self.refused(ceil(self._quotas.most))
        return True

    def _binds(self, now: float) -> bool:
        """Whether the quota counts now."""
        late = self._quotas.lateness
        if now >= late.until:
            return True
        is_full = self._late_since == late.since and self._held_back >= self._quotas.most
        return not is_full and now < late.since + self._quotas.longest(self._origin)


class _Waiting:
    """The last two authors, or sites, that brought a message while they were within their shares."""

    def __init__(self) -> None:
        self._last: bytes | str = ""
        self._last_at = self._before_at = -inf

    def note(self, who: bytes | str, now: float) -> None:
        """Note that *who* has brought a message."""
        if who != self._last:
            self._before_at, self._last = self._last_at, who
        self._last_at = now

    def has_another(self, who: bytes | str, now: float) -> bool:
        """Whether another than *who* has brought a message lately."""
        return now < (self._before_at if who == self._last else self._last_at) + LASTING


class _Crowd:
    """The processor's time that is left for the authors that one site introduced.

    As an :class:`_Account`, it notes when all that came will have been earned: by any author, and beyond
    that by those that the site introduced first.
    """

    __slots__ = ("_all", "_cost", "_early")

    def __init__(self, rate: float) -> None:
        self._cost = 2 / rate  # each half has half of the rate
        self._all = self._early = -inf

    def left(self, is_early: bool, now: float) -> float:
        """The seconds of the processor that an author may still take."""
        earned = self._early if is_early and self._all >= now + _TIME_IN_A_ROW else self._all
        return (now + _TIME_IN_A_ROW - max(now, earned)) / self._cost

    def spend(self, is_early: bool, time: float, now: float) -> bool:
        """Count *time* that an author took; return whether it may take more."""
        longest = now + _TIME_IN_A_ROW
        if is_early and self._all >= longest:
            self._early = min(max(now, self._early) + time * self._cost, longest + _DEBT)
            return self._early < longest
        self._all = min(max(now, self._all) + time * self._cost, longest + _DEBT)
        return self._all < longest or is_early


class Shares:
    """The shares of all authors at one node.

    :ivar refused: how many frames were refused so far.
    """

    def __init__(
        self,
        local_node: LocalNode,
        records: Records,
        authors: Authors,
        links: Links,
        effects: Effects,
        config: MeshConfig,
    ) -> None:
        self._own = local_node.origin
        self._policy = local_node.policy
        self._authors = authors
        self._links = links
        self._effects = effects
        self._known, self._new = _weights(config)
        self._rate = config.new_processor
        self._known_accounts: OrderedDict[bytes, _Account] = OrderedDict()  # the longest idle first
        self._new_accounts: OrderedDict[bytes, _Account] = OrderedDict()
        self._all_new, self._few = _time(self._rate), _time(self._rate)
        self._sites: OrderedDict[str, RateLimit] = OrderedDict()  # the longest idle first
        self._crowds: OrderedDict[str, _Crowd] = OrderedDict()  # by site, the longest idle first
        self._crowd_rate = config.known_processor
        self._waiting, self._waiting_sites = _Waiting(), _Waiting()
        self._lateness = _Lateness()
        self._quotas = _Quotas(self._lateness, records, config)
        self._quotas.all = self._policy.quotas
        self.refused = 0

    def may_bring(self, link: Link, origin: bytes, kind: Kind, now: float, size: int = 0) -> bool:
        """Whether *link* may bring a frame of *origin* that nobody asked for; if not, it is counted.

        :param size: of the frame, in bytes, if it is a batch.
        """
        site = self._site(link.host, origin, now)
        if self._is_within(site, origin, kind, now) or not self._bind(origin, now):
            if now >= self._lateness.until:
                return True
            crowd = self._crowd(link.host, origin, now)
            if self._crowd_time(crowd, origin, now) > 0 or not self._bind_crowd(crowd, now):
                return True
        self.refused += 1
        if (account := self._accounts(site).get(origin)) is not None:
            account.refused(size)
        return False

    def free(self, origin: bytes) -> bool:
        """Let the quota of *origin* bind no more while this node is late; return whether it has one."""
        account = self._known_accounts.get(origin)
        return account is not None and account.free()

    def policy_changed(self) -> None:
        """Go by the quotas of the policy from now on."""
        if self._quotas.all != self._policy.quotas:
            self._quotas.all = self._policy.quotas
            self._known_accounts.clear()

    def is_within(self, origin: bytes, now: float) -> bool:
        """Whether *origin* is within its share, as to batches, whether that binds or not."""
        if not self._is_within(self._site("", origin, now), origin, Kind.BATCH, now):
            return False
        return self._crowd_time(self._crowd("", origin, now), origin, now) > 0

    def askable(self, origin: bytes, now: float) -> int:
        """How many messages of *origin* may be asked for at a time; 0 for none now."""
        crowd, time = self._crowd("", origin, now), inf
        if self._bind_crowd(crowd, now):
            time = self._crowd_time(crowd, origin, now)
        if not self._bind(origin, now):
            return MAX_NUMBER if time == inf else max(0, ceil(time / _VERIFY))
        site = self._site("", origin, now)
        accounts = self._accounts(site)
        batches = (accounts.get(origin) or self._new_account(site, origin)).batches(now)
        if site is not None:
            time = self._new_time(site, now)
        return max(0, batches if time == inf else min(batches, ceil(time / _VERIFY)))

    def took(
        self, link: Link, origin: bytes, kind: Kind, now: float, size: int = 0, messages: int = 0
    ) -> None:
        """Count a verified frame of *origin*, of *size* bytes and so many *messages*.

        Each direct message counts as one thing of its kind, however many of them a frame has.
        """
        time = _VERIFY + messages * _MESSAGE + size * _BYTE
        site = self._site(link.host, origin, now)
        accounts = self._accounts(site)
        if (account := accounts.get(origin)) is None:
            account = accounts[origin] = self._new_account(site, origin)
            if len(accounts) > ACCOUNTS:
                accounts.popitem(last=False)
        else:
            accounts.move_to_end(origin)
        account.spend(kind, size, time, now, max(1, messages) if kind is Kind.DIRECT else 1)
        if site is not None:
            (self._all_new if self._all_new.has(now, _LEAST) else self._few).spend(now, time)
            self._brought(site).spend(now, time)
            if self._new_time(site, now) <= 0:
                return
        crowd = self._crowd(link.host, origin, now)
        if crowd is not None and not self._is_free(crowd) and not self._spend(crowd, origin, time, now):
            self._bind_crowd(crowd, now)  # sees whether this node is late
            return
        if kind is not Kind.RECORD and account.has(kind, now):
            self.waits(origin, now, crowd or "")

    def waits(self, origin: bytes, now: float, site: str = "") -> None:
        """Note that *origin*, which is within its share, has messages for this node.

        :param site: the site that introduced it; empty for this node itself.
        """
        self._waiting.note(origin, now)
        self._waiting_sites.note(site, now)

    def looked(self, late: float, now: float) -> None:
        """Take in that the timer that tells whether this node is late fires *late* seconds late."""
        if late >= LATE:
            if now >= self._lateness.until:
                self._lateness.since = now
            self._lateness.until = now + LASTING

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "known_shares": len(self._known_accounts),
            "new_shares": len(self._new_accounts),
            "share_sites": len(self._sites),
            "crowds": len(self._crowds),
        }

    def _bind(self, origin: bytes, now: float) -> bool:
        """Whether the shares bind *origin* now, since another author waits."""
        return self._waiting.has_another(origin, now) and self._is_late(now)

    def _bind_crowd(self, crowd: str | None, now: float) -> bool:
        """Whether *crowd* is bound now, since authors of another site wait; False for None."""
        return crowd is not None and self._waiting_sites.has_another(crowd, now) and self._is_late(now)

    def _is_late(self, now: float) -> bool:
        """Whether this node was late lately; if that is not known, see to it."""
        if self._effects.is_set(Timer.SHARES):
            self.looked(self._effects.late(Timer.SHARES, now), now)
        else:
            self._effects.set_timer(Timer.SHARES, now + LOOK)
        return now < self._lateness.until

    def _is_within(self, site: str | None, origin: bytes, kind: Kind, now: float) -> bool:
        """Whether *origin*, which counts for *site*, is within its share, as to frames of *kind*."""
        account = self._accounts(site).get(origin)
        if account is not None and not account.has(kind, now):
            return False
        return site is None or self._new_time(site, now) > 0

    def _new_time(self, site: str, now: float) -> float:
        """The seconds of the processor that are left for the new authors of *site*."""
        left = self._all_new.left(now)
        if left > 0:
            return left
        brought = self._sites.get(site)
        few = self._few.left(now)
        return few if brought is None else min(few, brought.left(now))

    def _brought(self, site: str) -> RateLimit:
        """The processor's time that new authors of *site* may still take if all others' is used up."""
        if (brought := self._sites.get(site)) is None:
            brought = self._sites[site] = _time(self._rate / _FEW)
            if len(self._sites) > SITES:
                self._sites.popitem(last=False)
        else:
            self._sites.move_to_end(site)
        return brought

    def _site(self, host: str, origin: bytes, now: float) -> str | None:
        """The site for which *origin* counts, a link to *host* being the last; None if it is known."""
        if not self._authors.knows_others(self._own):
            return None
        if (introducer := self._authors.introducer(origin, now)) is None:
            return None
        neighbour = self._links.way_to(origin)
        if neighbour is not None and neighbour.named:
            return None
        return site_of(host) if introducer == UNMET else introducer

    def _crowd(self, host: str, origin: bytes, now: float) -> str | None:
        """The site that introduced *origin*, or that of *host*; None once an author is known."""
        if self._authors.knows_others(self._own):
            return None
        introducer = self._authors.introducer(origin, now)
        return site_of(host) if introducer == UNMET else introducer

    def _is_free(self, site: str) -> bool:
        """Whether the authors that *site* introduced are no crowd."""
        return is_own_site(site) or self._links.names_site(site)

    def _crowd_time(self, site: str | None, origin: bytes, now: float) -> float:
        """The seconds that are left for *origin* in the crowd of *site*; inf if it is no crowd."""
        if site is None or (crowd := self._crowds.get(site)) is None or self._is_free(site):
            return inf
        return crowd.left(self._authors.is_early(origin, site), now)

    def _spend(self, site: str, origin: bytes, time: float, now: float) -> bool:
        """Count *time* that *origin* took of the crowd of *site*; return whether it may take more."""
        if (crowd := self._crowds.get(site)) is None:
            crowd = self._crowds[site] = _Crowd(self._crowd_rate)
            if len(self._crowds) > SITES:
                self._crowds.popitem(last=False)
        else:
            self._crowds.move_to_end(site)
        return crowd.spend(self._authors.is_early(origin, site), time, now)

    def _accounts(self, site: str | None) -> OrderedDict[bytes, _Account]:
        return self._known_accounts if site is None else self._new_accounts

    def _new_account(self, site: str | None, origin: bytes) -> _Account:
        return self._quotas.account(origin, self._known) if site is None else _Account(self._new)


def _time(rate: float) -> RateLimit:
    return RateLimit(_TIME_IN_A_ROW * rate, rate, _DEBT)


def _weights(config: MeshConfig) -> tuple[_Weights, _Weights]:
    """What a known and a new author may bring."""
    known = _Weights(
        config.known_processor,
        config.known_bytes,
        (config.known_batches_burst, config.known_batches),
        (config.known_runs_burst, config.known_runs_a_minute / 60),
        (config.known_records_burst, config.known_records_a_minute / 60),
        (config.known_directs_burst, config.known_directs),
    )
    new = _Weights(
        config.new_processor,
        config.new_bytes,
        (config.new_batches_burst, config.new_batches),
        (config.new_runs_burst, config.new_runs_a_minute / 60),
        (config.new_records_burst, config.new_records_a_minute / 60),
        (config.new_directs_burst, config.new_directs),
    )
    return known, new

"""How fast this node dials addresses that peers told it, and which of them it leaves alone.

Contract: all dials of such addresses share one :class:`DialLimit`, so that no peer can make this node dial
many hosts, or one host often.  A place (host and port) where the expected node was not found is left alone
for ``dial_again``.  If this node has never linked with a node at the site of the place, the whole site is
left alone, whatever its ports: for ``dial_again`` after the first failure, and twice as long after each
further one, up to ``dial_longest``.  Otherwise members could tell a host that has nothing to do with the
mesh, with each of its ports.  At a site with nodes of the mesh some nodes may be gone: up to
:data:`ALLOWED` failures lead to no wait there, and further ones to a wait that does not grow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit, backoff
from twisted_mesh.core.reachability import Place, site_of
from twisted_mesh.wire.membership import Contact, Purpose

#: More failures than successes at a site where nodes of the mesh are, before the site is left alone: a
#: machine whose nodes were restarted has many places where nobody is (guess).
ALLOWED: Final = 16
#: Dials at a time of places at a site where this node has linked with nobody; after a failure there, one.
#: With one, nodes on two machines took more than five seconds to link with each other (measured).
UNMET_AT_ONCE: Final = 2
#: Sites at which this node has linked with a node; the one that was linked longest ago is forgotten (guess:
#: more than a node has links).
SITES_MET: Final = 4096


@dataclass(slots=True)
class _Failures:
    """The dials of one site that failed.

    :ivar count: how many, less those that succeeded; :ivar last: when the last one failed.
    :ivar wait: for how many seconds from then on the site is left alone.
    """

    count: int = 0
    last: float = -inf
    wait: float = 0.0


@dataclass(eq=False)
class DialLimit:
    """The dials of addresses that peers told.

    :ivar own: the address of this node, which is never dialled: another node may have had it before.
    """

    _config: MeshConfig
    own: Place | None
    # The dials that have not ended, by id: the place, the purpose, and until when the dial counts.
    _under_way: dict[bytes, tuple[Place, Purpose, float]] = field(default_factory=dict)
    # The time before which a place is not dialled again.
    _barred_until: OrderedDict[Place, float] = field(default_factory=OrderedDict)
    # Failures by site; the site that failed last is at the end.
    _sites: OrderedDict[str, _Failures] = field(default_factory=OrderedDict)
    _met: OrderedDict[str, None] = field(default_factory=OrderedDict)  # the site met last is at the end
    _forgiven: float = -inf  # when failures were forgotten last

    def __post_init__(self) -> None:
        # No dial takes longer.  If the driver did not report its end, the dial would count for ever.
        self._longest = self._config.connect_timeout + self._config.handshake_timeout
        self._bucket = RateLimit(self._config.dial_burst, self._config.dial_rate)

    def may(self, contact: Contact, now: float) -> bool:
        """Whether *contact* may be dialled now."""
        return (
            not self.is_barred(contact, now)
            and len(self._under_way) < self._config.dials_at_once
            and self._bucket.has(now)
        )

    def is_barred(self, contact: Contact, now: float) -> bool:
        """Whether *contact* is dialled already, was not found lately, or is at this node's own address."""
        self._expire(now)
        place, site = (contact.host, contact.port), site_of(contact.host)
        is_met = site in self._met
        return (
            contact.id in self._under_way
            or place == self.own
            or place in self._barred_until
            or (site in self._sites and now < self._sites[site].last + self._sites[site].wait)
            or any(place == other for other, _, _ in self._under_way.values())
            or (not is_met and self._under_way_at(site) >= self._at_once(site))
        )

    def _at_once(self, site: str) -> int:
        """How many dials at a time there may be at *site*, where this node has linked with nobody."""
        return 1 if site in self._sites else UNMET_AT_ONCE

    def _under_way_at(self, site: str) -> int:
        return sum(site == site_of(host) for (host, _), _, _ in self._under_way.values())

    def met(self, host: str) -> None:
        """Note that this node is linked with a node at *host*, or was in an earlier run."""
        site = site_of(host)
        self._met[site] = None
        self._met.move_to_end(site)
        if len(self._met) > SITES_MET:
            self._met.popitem(last=False)

    def began(self, contact: Contact, purpose: Purpose, now: float) -> None:
        """Note that *contact* is dialled, as :meth:`may` allowed."""
        self._bucket.take(now)
        place = (contact.host, contact.port)
        self._under_way[contact.id] = place, purpose, now + self._longest

    def over(self, id: bytes, now: float, found: bool, met: bool = False) -> Purpose | None:
        """Note that a dial has ended, and whether the node was *found*; return its purpose, or None.

        :param met: whether a node of this mesh answered there, though it was not *found*.
        """
        if (dial := self._under_way.pop(id, None)) is None:
            return None
        place, purpose, _ = dial
        if found:
            self._succeeded(place[0])
        else:
            if met:
                self.met(place[0])
            self._barred_until[place] = now + self._config.dial_again
            self._barred_until.move_to_end(place)
            if len(self._barred_until) > self._config.failed_dials:
                self._barred_until.popitem(last=False)
            self._failed_at(site_of(place[0]), now)
        return purpose

    def forgive(self, now: float) -> None:
        """Let all places be dialled again: this node had no link, so the failures may be its own.

        That is done once in ``dial_again``: a peer could let this node lose its only link again and again.
        """
        if now >= self._forgiven + self._config.dial_again:
            self._forgiven = now
            self._barred_until.clear()
            self._sites.clear()

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "dials_under_way": len(self._under_way),
            "failed_dials": len(self._barred_until),
            "failed_sites": len(self._sites),
            "sites_met": len(self._met),
        }

    def _succeeded(self, host: str) -> None:
        self.met(host)
        site = site_of(host)
        if (failures := self._sites.get(site)) is not None:
            failures.count -= 1
            if not failures.count:
                del self._sites[site]

    def _failed_at(self, site: str, now: float) -> None:
        config, is_met = self._config, site in self._met
        failures = self._sites.setdefault(site, _Failures())
        if failures.last + failures.wait + config.dial_longest < now:
            failures.count = 0  # that was long ago
        failures.count += 1
        failures.last = now
        allowed, longest = (ALLOWED, config.dial_again) if is_met else (0, config.dial_longest)
        surplus = failures.count - allowed
        failures.wait = backoff(config.dial_again, surplus - 1, longest) if surplus > 0 else 0.0
        self._sites.move_to_end(site)
        if len(self._sites) > config.failed_dials:
            self._sites.popitem(last=False)

    def _expire(self, now: float) -> None:
        for id in [id for id, (_, _, until) in self._under_way.items() if until <= now]:
            del self._under_way[id]
        while self._barred_until and next(iter(self._barred_until.values())) <= now:
            self._barred_until.popitem(last=False)

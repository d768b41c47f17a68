"""What is measured: each scenario plays once with one system and gives figures.

Contract: :meth:`Scenario.play` starts the processes it needs, and none is left when it returns or raises
:class:`~benchmarks.cast.Failed`.  Each wait is bounded: what has not come when nothing came for
``PATIENCE`` seconds, or when the scenario's time is over, is lost.  Figures are plain numbers by name, as
they are written to JSON; what they mean stands in :mod:`benchmarks.figures`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.cast import POLL, Cast, Failed
from benchmarks.catalogue import System, Wiring
from benchmarks.figures import (
    Figures,
    Marks,
    delay_figures,
    rate_between,
    request_figures,
    transfer_figures,
)

PATIENCE: Final = 2.0
_FIRST: Final = 10.0  # seconds until the first comes
_SETTLE: Final = 0.3  # overlays and new connections have their say before anything is measured (guess)
_LINK_SETTLE: Final = 0.1  # and what a link takes is allocated (guess)
_LINKS: Final = 8

#: Starts (nodes, alone) of a system: what the command passes in, with the environment and the server.
Casting = Callable[[int, bool], Cast]


@dataclass(frozen=True)
class Scenario(ABC):
    """One measurement.

    :ivar name: for the command line and the results.
    :ivar title: for the page.
    """

    name: str
    title: str

    def suits(self, system: System) -> bool:
        """Whether *system* is to play it, and can."""
        return not system.only or self.name in system.only

    @abstractmethod
    def play(self, system: System, cast: Casting, part: float) -> Figures:
        """Measure once.

        :param part: of the messages: 1 for all.
        """


@dataclass(frozen=True)
class Transfer(Scenario):
    """Messages as fast as the system takes them, from the first nodes to all others.

    :ivar count: messages over all senders.
    :ivar seconds: how long it may take.
    :ivar long: whether the beginning is compared with the end.
    """

    nodes: int
    senders: int
    size: int
    count: int
    seconds: float = 60.0
    long: bool = False

    def play(self, system: System, cast: Casting, part: float) -> Figures:
        """Send, and wait until all have come or no more do."""
        each = max(1, round(self.count * part * system.share / self.senders))
        with cast(self.nodes, False) as nodes:
            nodes.link_all()
            time.sleep(_SETTLE)
            senders = nodes.players[: self.senders]
            wanted = [each * (self.senders - (player in senders)) for player in nodes.players]
            for player, most in zip(nodes.players, wanted, strict=True):
                player.ask("expect", max(1, most), False)
            before = cpu_seconds(nodes)
            for player in senders:
                player.tell("send", each, self.size)
            for player in senders:
                player.answer()
            early = self._wait(nodes, wanted)
            after = cpu_seconds(nodes)
            began = min(player.ask("heard")[1] for player in senders)
            marks = [
                player.ask("marks") for player, most in zip(nodes.players, wanted, strict=True) if most
            ]
            heard = [player.ask("heard")[0] for player in nodes.players]
            figures = transfer_figures(sum(wanted), sum(heard), began, marks, after - before)
            figures |= memory_figures(nodes)
            if self.long and early:
                figures |= {"sender_early": early, "sender_late": nodes.players[0].ask("heard")[2]}
                figures |= rate_between(marks[0], wanted[-1])
            return figures

    def _wait(self, nodes: Cast, wanted: list[int]) -> float:
        """Until all is there; the first sender's memory when the first tenth was.

        :raises Failed: a sender broke off.
        """
        until = time.monotonic() + self.seconds
        early, last, patient = 0.0, 0, time.monotonic() + _FIRST
        while True:
            for player in nodes.players:
                player.tell("heard")
            told = [player.answer() for player in nodes.players]
            heard = [count for count, *_ in told]
            if not early and sum(heard) >= sum(wanted) / 10:
                early = float(told[0][2])
            if all(count >= most for count, most in zip(heard, wanted, strict=True)):
                return early
            now = time.monotonic()
            if sum(heard) > last:
                last, patient = sum(heard), now + PATIENCE
            if now > min(patient, until):
                whole(nodes)
                return early
            time.sleep(POLL)


@dataclass(frozen=True)
class Consumers(Transfer):
    """Messages that are taken in two ways: the systems that play nothing else."""

    def suits(self, system: System) -> bool:
        """Only what was made for it."""
        return self.name in system.only


@dataclass(frozen=True)
class Requests(Scenario):
    """Requests with answers between two nodes: many under way at a time, then one after the other.

    :ivar count: of the requests, ten times as many as are made one after the other.
    """

    count: int
    together: int
    size: int = 64
    seconds: float = 60.0

    def suits(self, system: System) -> bool:
        """Only who can ask."""
        return super().suits(system) and system.asks

    def play(self, system: System, cast: Casting, part: float) -> Figures:
        """Ask."""
        count = max(20, round(self.count * part))
        with cast(2, False) as nodes:
            nodes.link_all()
            time.sleep(_SETTLE)
            before = cpu_seconds(nodes)
            marks, began = self._ask(nodes, count, self.together)
            figures = request_figures(count, marks, began, cpu_seconds(nodes) - before)
            self._ask(nodes, count // 10, 1)
            alone = delay_figures(count // 10, nodes.players[1].ask("delays"))
            return figures | {name: alone[name] for name in ("p50", "p99", "max") if name in alone}

    def _ask(self, nodes: Cast, count: int, together: int) -> tuple[Marks, int]:
        """Have the second node ask the first, and wait for the answers."""
        asker = nodes.players[1]
        asker.ask("inquire", count, self.size, together)
        until = time.monotonic() + self.seconds
        while asker.ask("heard")[0] < count and time.monotonic() < until:
            time.sleep(POLL)
        whole(nodes)
        return asker.ask("marks"), asker.ask("heard")[1]


@dataclass(frozen=True)
class Latency(Scenario):
    """One message after the other, at a moderate rate, over so many hops.

    :ivar rate: messages a second.
    """

    hops: int
    count: int
    rate: float
    size: int = 64

    def suits(self, system: System) -> bool:
        """Only what relays can go further than one hop."""
        return super().suits(system) and (self.hops == 1 or system.lines)

    def play(self, system: System, cast: Casting, part: float) -> Figures:
        """Send from one end of a line to the other."""
        count = max(10, round(self.count * part))
        with cast(self.hops + 1, self.hops > 1) as nodes:
            nodes.link_line() if self.hops > 1 else nodes.link_all()
            time.sleep(_SETTLE)
            for player in nodes.players:
                player.ask("expect", count, True)
            nodes.players[0].ask("pace", count, self.size, self.rate)
            ear = nodes.players[-1]
            until = time.monotonic() + 2 * count / self.rate + PATIENCE
            while ear.ask("heard")[0] < count and time.monotonic() < until:
                time.sleep(POLL)
            whole(nodes)
            return delay_figures(count, ear.ask("delays"))


@dataclass(frozen=True)
class Memory(Scenario):
    """What an idle node takes, and what each link adds; a client's link is in its server."""

    def play(self, system: System, cast: Casting, part: float) -> Figures:
        """One node, and one neighbour after the other."""
        with cast(1 + _LINKS, True) as nodes:
            hub = nodes.players[0]
            time.sleep(_SETTLE)
            idle, ends = hub.usage()["rss"], []
            holder = nodes.server or hub
            if system.wiring is Wiring.SERVER:
                nodes.link(0, 0)
            for number in range(1, 1 + _LINKS):
                nodes.link(number, 0)
                time.sleep(_LINK_SETTLE)
                if number in (1, _LINKS):
                    ends.append(holder.usage()["rss"])
            figures: Figures = {"idle": idle, "linked": hub.usage()["rss"]}
            figures["link"] = (ends[1] - ends[0]) / (_LINKS - 1)
            return figures | memory_figures(nodes)


def whole(nodes: Cast) -> None:
    """See that what is missing was lost, and not left unsent.

    :raises Failed: a sender broke off.
    """
    for player in nodes.players:
        if trouble := player.ask("heard")[3]:
            raise Failed(f"{player.name} broke off: {trouble}")


def cpu_seconds(nodes: Cast) -> float:
    """Of all processes, the server's as well."""
    server = nodes.server.usage()["cpu"] if nodes.server else 0.0
    return server + sum(player.usage()["cpu"] for player in nodes.players)


def memory_figures(nodes: Cast) -> Figures:
    """The most that the fattest node had, and the server."""
    figures: Figures = {"peak": max(player.usage()["peak"] for player in nodes.players)}
    if nodes.server:
        figures["server"] = nodes.server.usage()["peak"]
    return figures


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Transfer("hop-64", "One hop, 64 B", nodes=2, senders=1, size=64, count=400_000),
        Transfer("hop-1k", "One hop, 1 KiB", nodes=2, senders=1, size=1024, count=150_000),
        Transfer("hop-64k", "One hop, 64 KiB", nodes=2, senders=1, size=65_536, count=6_000),
        Transfer("eight-one", "Eight nodes, one sends, 64 B", nodes=8, senders=1, size=64, count=100_000),
        Transfer("eight-all", "Eight nodes, all send, 64 B", nodes=8, senders=8, size=64, count=100_000),
        Latency("latency", "Latency, one hop", hops=1, count=1_000, rate=200),
        Latency("latency-3", "Latency, three hops", hops=3, count=1_000, rate=200),
        Requests("requests", "Requests with answers, 64 B, 32 at a time", count=10_000, together=32),
        Requests("requests-128", "Requests with answers, 64 B, 128 at a time", count=20_000, together=128),
        Transfer("sustained", "Sustained, 64 B", nodes=2, senders=1, size=64, count=1_000_000, long=True),
        Memory("memory", "Memory"),
        Consumers("consumers", "One hop, 64 B, by iterators", nodes=2, senders=1, size=64, count=400_000),
    )
}

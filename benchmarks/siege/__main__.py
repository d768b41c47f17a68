"""Honest messages beside an attacker that is a member: ``python -m benchmarks.siege``.

Three honest nodes in a line, each a process with a host of its own, in a network that is linked to no other
(``unshare`` and ``ip`` make it): one sends a message every 20 ms,
the next one relays it, the last one notes its delay.  First without an attacker, then with one of each
kind linked to the middle.  Prints for each kind the median and the 99th percentile, the latter also as a
ratio to that in calm, and how many honest links have ended.  The status is 1 if a ratio is ten or more, if
a message is missing, or if an honest link has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import quantiles
from typing import Any, Final, NoReturn, Self

from benchmarks.siege.attackers import KINDS, STRANGERS
from benchmarks.siege.node import HOSTS

_CALM: Final = "calm"
_MOST: Final = 10.0  # the ratio that is promised
_WAIT: Final = 60.0  # seconds for the last of the messages
_INSIDE: Final = "--inside"  # in the network of its own


class Child:
    """A process that answers."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", f"benchmarks.siege.{module}", *map(str, arguments)]
        self._name = shlex.join(command)
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def tell(self, *order: object) -> None:
        """Give an order."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def answer(self) -> Any:
        """Its next line."""
        assert self._child.stdout is not None
        if line := self._child.stdout.readline():
            return json.loads(line)
        raise SystemExit(f"{self._name} has ended")

    def ask(self, *order: object) -> Any:
        """Give an order, and take the answer."""
        self.tell(*order)
        return self.answer()


def delays(kind: str, seconds: float) -> tuple[list[float], int, int]:
    """The delays of all messages that came, how many did not, and how many honest links have ended."""
    with ExitStack() as stack:
        middle, speaker, listener = (
            stack.enter_context(Child("node", role)) for role in ("middle", "speaker", "listener")
        )
        for node in (middle, speaker, listener):
            node.answer()
        if kind != _CALM:
            stack.enter_context(Child("attackers", kind)).answer()
        sent = speaker.ask("speak", seconds)
        heard: list[float] = listener.ask("heard")
        until = time.monotonic() + _WAIT
        while len(heard) < sent and time.monotonic() < until:
            time.sleep(0.2)
            heard += listener.ask("heard")
        return heard, sent - len(heard), speaker.ask("ended") + listener.ask("ended")


def enter(arguments: Sequence[str]) -> NoReturn:
    """Play in a network of its own, where each node has a host of its own."""
    commands = ["ip link set lo up", *(f"ip address add {host}/32 dev lo" for host in HOSTS.values())]
    again = shlex.join([sys.executable, "-m", "benchmarks.siege", _INSIDE, *arguments])
    script = " && ".join([*commands, f"exec {again}"])
    os.execvp("unshare", ["unshare", "--map-root-user", "--net", "sh", "-c", script])


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; the exit status."""
    names = [*KINDS, STRANGERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.siege", description=(__doc__ or "")[:79])
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, help="for each kind (default 10)")
    add("--kind", nargs="+", choices=names, default=names, metavar="KIND", help="these kinds alone")
    add(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.inside:
        enter(sys.argv[1:] if arguments is None else arguments)
    calm, status = 0.0, 0
    print(f"{'':28}{'p50, ms':>9}{'p99, ms':>9}{'ratio':>7}{'missing':>9}{'ended':>7}")
    for kind in (_CALM, *options.kind):
        heard, missing, ended = delays(kind, options.seconds)
        cuts = quantiles(heard, n=100) if len(heard) > 1 else [float("nan")] * 99
        calm = calm or cuts[98]
        ratio = cuts[98] / calm
        status |= missing > 0 or ended > 0 or not ratio < _MOST
        print(
            f"{kind:28}{cuts[49] * 1e3:9.1f}{cuts[98] * 1e3:9.1f}{ratio:7.1f}{missing:9}{ended:7}",
            flush=True,
        )
    return int(status)


if __name__ == "__main__":
    sys.exit(main())

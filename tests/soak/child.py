"""A node of a soak: its input are orders and its output are events, each a line of JSON.

Contract: ``python -m tests.soak.child '{...}'``, with what :meth:`tests.soak.cast.Actor.start` says.
It tells of a message before the mesh can count it as taken. Told to stop, it ends with status 0.
"""

# ruff: noqa: E402
from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from tests.soak import skewed

# A process group of its own: in an orphaned group, if a process ends while another is stopped, the system
# sends SIGHUP to all of them.
os.setpgrp()
START = json.loads(sys.argv[1])
skewed.install(START["skew"])

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from twisted_mesh import Identity, MeshConfig, MeshService, Message
from twisted_mesh.errors import MeshError
from twisted_mesh.eventloop.clock import make_monotonic

reactor: Any = _reactor


def tell(**event: object) -> None:
    """Write an event as a line."""
    # In one write: each taken message must be known, whenever the process is killed.
    os.write(1, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def dial(host: str, port: int) -> TCP4ClientEndpoint:
    """Dial from this node's own address, by which the proxy knows the node."""
    timeout = service.config.connect_timeout
    return TCP4ClientEndpoint(reactor, host, port, timeout, (START["home"], 0))


def heard(message: Message) -> None:
    """A message was delivered."""
    author, run, counter, _ = message.packets[1:]
    assert message.id is not None
    tell(
        event="got",
        a=author,
        r=run,
        c=counter,
        id=message.sender.decode(),
        e=message.id[1],
        s=message.id[2],
    )


@implementer(IReadDescriptor)
class Node:
    """Carries out the orders on standard input, one method for each ``do``."""

    def __init__(self) -> None:
        self._line = b""
        self.sent = 0
        self.receipts: dict[int, Any] = {}
        self.room = 0  # messages that a slow reader may take
        self.more: Deferred[None] | None = None

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "input"

    def connectionLost(self, reason: object) -> None:
        """The process that started this one is gone, or the reactor has ended."""
        with suppress(ReactorNotRunning):
            reactor.stop()

    def doRead(self) -> Exception | None:  # type: ignore[override]
        data = os.read(0, 65536)
        if not data:
            return ConnectionDone()
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            getattr(self, "do_" + asked.pop("do"))(**asked)
        return None

    def do_send(self, sizes: list[int], receipt: bool) -> None:
        """Send messages of these sizes in bytes, the last with a receipt if asked for."""
        before = self.sent
        for number, size in enumerate(sizes, 1):
            packets = (START["node"], START["run"], self.sent + 1, b"x" * size)
            asks = receipt and number == len(sizes)
            try:
                if asks:
                    self.receipts[self.sent + 1] = service.send(*packets, receipt=True)
                else:
                    service.send(*packets)
            except MeshError as error:
                tell(event="refused", why=type(error).__name__)
                break
            self.sent += 1
        if self.sent > before:
            tell(event="sent", upto=self.sent)

    def do_jump(self, seconds: float) -> None:
        """Set the clock."""
        skewed.jump(seconds)

    def do_take(self, count: int) -> None:
        """Let a slow reader take so many more."""
        self.room += count
        if self.more is not None:
            more, self.more = self.more, None
            more.callback(None)

    def do_look(self, token: int) -> None:
        """Tell the sizes of all tables, and the sets of every receipt."""
        members = {member.id.decode(): member.state for member in service.members.values()}
        receipts = [
            [counter, *(sorted(map(bytes.decode, ids)) for ids in (r.delivered, r.pending, r.missed))]
            for counter, r in self.receipts.items()
        ]
        tell(
            event="look",
            token=token,
            footprint=service.footprint(),
            descriptors=descriptors(),
            members=members,
            receipts=receipts,
        )

    def do_weigh(self) -> None:
        """Tell how much memory this process has, and how many descriptors."""
        _, resident, *_ = Path("/proc/self/statm").read_text().split()
        footprint = service.footprint()
        tell(
            event="weight",
            resident=int(resident) * os.sysconf("SC_PAGESIZE"),
            messages=footprint["held_bytes"] + footprint["queued_bytes"],
            descriptors=descriptors(),
            connections=footprint["connections"],
        )

    def do_stop(self) -> None:
        """Stop as an application does, and end."""
        reactor.stop()


def descriptors() -> int:
    """How many are open."""
    return len(os.listdir("/proc/self/fd")) - 1  # less the descriptor of the listing itself


async def read_slowly() -> None:
    """Take messages one by one, as there is room for them."""
    async for message in messages:
        heard(message)
        node.room -= 1
        if node.room <= 0:
            node.more = Deferred()
            await node.more


globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
if START["steady"]:
    make_monotonic(reactor)
service = MeshService(
    reactor,
    listen=[f"tcp:{START['port']}:interface=127.0.0.1"],
    peers=START["peers"],
    subnet="soak",
    identity=Identity.load_or_create(START["identity"]) if START["identity"] else None,
    history=START["history"],
    out_addr=("127.0.0.1", START["gate"]),
    dial=dial,
    label=f"{START['node']}.{START['run']}",
    debug_level=START["debug"],
    config=MeshConfig(**START["config"]),
)
node = Node()
if START["slow"]:
    messages = service.messages()
    Deferred.fromCoroutine(read_slowly())
else:
    service.on("message", heard)
service.on(
    "gap",
    lambda gap: tell(
        event="gap", id=gap.sender.decode(), e=gap.epoch, first=gap.first, last=gap.last, why=gap.reason
    ),
)
service.on("failure", lambda failure: tell(event="failure", why=repr(failure.value)))


def start() -> None:
    """Begin, once the reactor runs."""
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    tell(event="listening", port=service.addresses[0][1], id=service.id.decode())
    service.joined().addCallbacks(lambda _: tell(event="joined"), lambda _: None)


reactor.callWhenRunning(start)
reactor.addReader(node)
reactor.run()

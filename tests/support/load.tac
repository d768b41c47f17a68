"""
A node that sends as fast as it is told to: an ``Application`` for ``twistd -y``.

It begins with two neighbours and ends when there is a file ``stop``. Each tenth of a second it writes
to ``load.json`` how many messages it has sent, whether it has ended, and the most streams it ever owed
an announcement to a neighbour whose queue was full.
"""

import json
from pathlib import Path

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor

from twisted_mesh import MeshService
from twisted_mesh.errors import Congested

BYTES = 20_000
A_TICK = 4
TICK = 0.01

load = {"sent": 0, "ended": False, "owed": 0, "queued": 0}
node = MeshService(reactor, listen=["tcp:0:interface=127.0.0.1"], debug_level=1)


def send():
    if load["ended"] or (not load["sent"] and len(node.routing_table) < 2):
        return
    for _ in range(A_TICK):
        try:
            node.send("x" * BYTES)
        except Congested:
            return  # until the next tick
        load["sent"] += 1


def report():
    load["ended"] = Path("stop").exists()
    footprint = node.footprint()
    for name, count in (("owed", "owed"), ("queued", "queued_bytes")):
        load[name] = max(load[name], footprint.get(count, 0))
    Path("load.new").write_text(json.dumps(load))
    Path("load.new").replace("load.json")


application = Application("a node that sends")
node.setServiceParent(application)
TimerService(TICK, send).setServiceParent(application)
TimerService(0.1, report).setServiceParent(application)

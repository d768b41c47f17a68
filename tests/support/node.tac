"""
A node among other services: an ``Application`` for ``twistd -y``.

Each tenth of a second another service writes what there is to know of the node to ``status.json``.
The node's arguments are in ``node.json``.
"""

import itertools
import json
import os
from collections import Counter
from pathlib import Path

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor

from twisted_mesh import MeshConfig, MeshService

options = json.loads(Path("node.json").read_text())
options["config"] = MeshConfig(**options.pop("limits", {}))
received = []
refused = Counter()
node = MeshService(reactor, debug_level=1, **options)
node.on("message", lambda message: received.append(message.packets[1:]))
node.on("refused", lambda refusal: refused.update([refusal.reason]))
node.on("connect", lambda service: service.send("hello from the application"))


numbers = itertools.count()


def report():
    status = {
        "number": next(numbers),
        "footprint": node.footprint(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "received": received[-5:],
        "refused": refused,
    }
    Path("status.new").write_text(json.dumps(status))
    Path("status.new").replace("status.json")


application = Application("a node among others")
services = MultiService()
services.setServiceParent(application)
node.setServiceParent(services)
TimerService(0.1, report).setServiceParent(services)

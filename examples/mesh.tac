"""A node among other services of one application: a timer sends this host's load to all nodes every ten
seconds, and a listener logs the loads of other hosts. In two terminals::

    twistd -n --pidfile= -y mesh.tac
    MESH_PORT=4445 MESH_PEERS=127.0.0.1:4444 twistd -n --pidfile= -y mesh.tac
"""

import os
import socket

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.logger import Logger

from twisted_mesh import MeshService

log = Logger("loads")
port = os.environ.get("MESH_PORT", "4444")
peers = os.environ.get("MESH_PEERS", "").split()

mesh = MeshService(reactor, listen=[f"tcp:{port}:interface=127.0.0.1"], peers=peers, debug_level=1)


def tell():
    mesh.send("load", socket.gethostname(), os.getloadavg()[0])


@mesh.on("message")
def heard(message):
    match message.packets[1:]:
        case ["load", str(who), float(load)]:
            log.info("{who!r} has a load of {load}", who=who, load=load)


application = Application("mesh")
services = MultiService()
services.setServiceParent(application)
mesh.setServiceParent(services)  # services start in this order
TimerService(10, tell).setServiceParent(services)

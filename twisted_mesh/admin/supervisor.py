"""Tells the supervisor of this process, such as systemd, how the node is (``sd_notify(3)``).

Contract: a message that cannot be sent is lost: the node does not depend on its supervisor.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from twisted.application.service import Service

from twisted_mesh.service import MeshService

VARIABLE: Final = "NOTIFY_SOCKET"  #: the variable of the environment that names the supervisor's socket


class Supervised(Service):
    """Says ``READY`` once the node listens, ``STATUS`` when its neighbours change, and ``STOPPING``."""

    def __init__(self, node: MeshService, address: str) -> None:
        """:param address: the value of :data:`VARIABLE`."""
        # A name that begins with @ is an abstract one of Linux, which is in no file system.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._node = node
        for event in ("connect", "disconnect", "member"):
            node.on(event, self._changed)

    def startService(self) -> None:
        """Say ``READY`` when every port is bound."""
        super().startService()
        # If the node cannot listen, the process ends, and says why itself.
        self._node.ready().addCallbacks(self._ready, lambda _: None)

    def stopService(self) -> None:
        """Say ``STOPPING``."""
        super().stopService()
        self._tell("STOPPING=1")

    def _ready(self, _: None) -> None:
        self._tell("READY=1", self._status())

    def _changed(self, _: object) -> None:
        if self.running:
            self._tell(self._status())

    def _status(self) -> str:
        states = [member.state for member in self._node.members.values()]
        neighbours = len(self._node.routing_table)
        return f"STATUS=neighbours: {neighbours}; members up: {states.count('up')} of {len(states)}"

    def _tell(self, *lines: str) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto("\n".join(lines).encode(), self._address)

"""The nodes that the application has disconnected.

Contract: this node does not dial such a node for ``redial_forbidden`` seconds, or until the application
connects to the node again.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from twisted_mesh.config import MeshConfig


class CoolDown:
    """Ids of nodes, and the time until which each is not dialled."""

    def __init__(self, clock: IReactorTime, config: MeshConfig) -> None:
        self._clock = clock
        self._seconds = config.redial_forbidden
        self._until: dict[bytes, float] = {}

    def add(self, node_id: bytes) -> None:
        now = self._clock.seconds()
        self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[node_id] = now + self._seconds

    def __contains__(self, node_id: object) -> bool:
        return isinstance(node_id, bytes) and self.left(node_id) > 0

    def left(self, node_id: bytes | None) -> float:
        """Seconds until the node may be dialled; 0 if it may be now."""
        if node_id is None or node_id not in self._until:
            return 0.0
        return max(0.0, self._until[node_id] - self._clock.seconds())

    def discard(self, node_id: bytes | None) -> None:
        if node_id is not None:
            self._until.pop(node_id, None)

    def footprint(self) -> dict[str, int]:
        return {"disconnected": len(self._until)}

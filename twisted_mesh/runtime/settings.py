"""What a service was told to be, checked, and what follows from it at each start.

Contract: :class:`Settings` raises :class:`~twisted_mesh.errors.LocalError` for what cannot work and opens
nothing; the words for them are those of :class:`~twisted_mesh.service.MeshService`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted_mesh.addressing.addresses import WILDCARDS, check_address, lan_address, told_address
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.joining import replay_number
from twisted_mesh.core.handshake import LocalNode, Verify
from twisted_mesh.core.history.storage import Store
from twisted_mesh.delivery.members import check_label, check_role, check_said, check_tags
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.storage.sqlite import SqliteStore

Address = tuple[str, int]


class Settings:
    """The settings of one service.

    :ivar config: every limit and interval; :ivar network: it belongs to; :ivar identity: its key.
    :ivar wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        network: Protocol,
        identity: Identity | None,
        out_addr: Address | None,
        history: str | os.PathLike[str] | None,
        replay: float | str | None,
        overlay: bool,
        role: str,
        label: str | None,
        tags: Mapping[str, str],
        config: MeshConfig | None,
        wall_clock: Callable[[], float],
        verify: Verify,
    ) -> None:
        """
        :param wall_clock: seconds since 1970; :param verify: what looks at signatures.
        """
        if not isinstance(config, MeshConfig | None):
            raise LocalError(f"config is a MeshConfig, such as MeshConfig(ping_after=2.0), not {config!r}")
        self.config = config or MeshConfig()
        self.network = network.checked()
        if not isinstance(identity, Identity | None):
            raise LocalError(f"an identity is Identity.load_or_create(path), not {identity!r}")
        self.identity = identity or Identity.generate()
        self._out_addr = None if out_addr is None else check_address(out_addr)
        self._history = None if history is None else Path(history).absolute()
        self._replay = replay_number(replay)
        if type(overlay) is not bool:
            raise LocalError(f"overlay is True or False, not {overlay!r}")
        self._overlay = overlay
        self._role = check_role(role)
        self._label, self._tags = check_label(label), check_tags(tags)
        check_said(self._label, self._tags)
        self.wall_clock = wall_clock
        self._verify = verify

    def out_addr(self, bound: Sequence[Address]) -> Address | None:
        """Where others are told to dial the node, or None where nobody can.

        :param bound: where it listens.
        """
        if self._out_addr is None:
            return told_address(bound)
        host, port = self._out_addr
        if host not in WILDCARDS:
            return host, port
        reached = lan_address()
        return None if reached is None else (reached, port)

    def open_history(self) -> Store | None:
        """Open the store of the history; None if it is in memory alone.

        :raises StoreError: it cannot be used.
        """
        if self._history is None:
            return None
        config = self.config
        return SqliteStore(
            self._history,
            network=self.network.id,
            bytes_limit=config.store_bytes,
            seconds_limit=config.store_seconds,
            closed_limit=config.closed_streams,
            wall_ms=lambda: int(self.wall_clock() * 1000),
        )

    def new_run(self, above: int, address: Address | None) -> LocalNode:
        """What to say of the node in a new run, whose epoch is above that of all it had and *above*.

        :param address: where others can dial it.
        :raises IdentityError: the run's number cannot be kept beside the key.
        """
        me, limits = self.identity, self.config
        epoch = me.next_epoch(max(above + 1, int(self.wall_clock() * 1000)))
        return LocalNode(
            me.id, me.origin, epoch, self.network, address, False, me.sign, self._verify, self._replay,
            role=self._role,
            overlay=self._overlay,
            label=self._label,
            tags=self._tags,
            retention=int(limits.history_seconds if self._history is None else limits.store_seconds),
            ephemeral=me.path is None,
        )  # fmt: skip

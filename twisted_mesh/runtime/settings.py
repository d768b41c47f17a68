"""The checked settings of a service: at each start they give the store and the node's description.

Contract: :class:`Settings` raises :class:`~twisted_mesh.errors.LocalError` for values that cannot work, and
opens no file.  All its arguments but *host* are named as in :class:`~twisted_mesh.service.MeshService`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.handshake import LocalNode, Profile, Verify
from twisted_mesh.core.history.storage import Store, StoreLimits, StoreOwner
from twisted_mesh.errors import LocalError
from twisted_mesh.grammar import a
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.runtime.sealing import HpkeKeys
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.trust.policy import Trust
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Role

_log = Logger()


class Host(NamedTuple):
    """What a service takes from its host; :class:`~twisted_mesh.testing.MemoryMesh` replaces all of it.

    :ivar wall_clock: gives seconds since 1970; :ivar verify: checks signatures.
    :ivar draw: draws a number from 0 to its argument - 1 that nobody can foresee.
    :ivar allow_descriptors: asks the host to allow the process this many open descriptors; returns how many
        it allows, or None if that is not known.
    """

    wall_clock: Callable[[], float]
    verify: Verify
    draw: Callable[[int], int]
    allow_descriptors: Callable[[int], int | None]


class Settings:
    """The settings of one service.

    :ivar config: every limit and interval; :ivar network: the network that the node belongs to.
    :ivar trust: who belongs to that network, and :ivar policy: the same for the core.
    :ivar identity: the node's key; :ivar wall_clock: gives seconds since 1970.
    """

    def __init__(
        self,
        network: Protocol,
        identity: Identity | None,
        history: str | os.PathLike[str] | None,
        profile: Profile,
        config: MeshConfig | None,
        host: Host,
        trust: Trust | None,
    ) -> None:
        if not isinstance(config, MeshConfig | None):
            raise LocalError(f"config is a MeshConfig, such as MeshConfig(ping_after=2.0), not {config!r}")
        self.config = config or MeshConfig()
        self.network = network.checked()
        if not isinstance(trust, Trust | None):
            kind = type(trust).__name__
            raise LocalError(f"trust is a Trust, such as Trust.secret('mesh.secret'), not {a(kind)}")
        kept_for = max(self.config.history_seconds, self.config.store_seconds)
        self.trust = trust or Trust.open()
        self.policy = self.trust.load(self.network, host.wall_clock, kept_for)
        if not isinstance(identity, Identity | None):
            raise LocalError(f"an identity is twisted_mesh.Identity.load_or_create(path), not {identity!r}")
        if identity is None and history is not None:
            # After a restart this node would have another key, and its messages would be another node's.
            raise LocalError(
                "a history is one node's: give its identity, too, such as "
                "identity=Identity.load_or_create('node.key')"
            )
        self.identity = identity or Identity.generate()
        self.policy.fit(self.identity.id, profile.role is Role.GUEST, self.identity.path)
        self._history = None if history is None else Path(history).absolute()
        self._profile = profile
        self.wall_clock = host.wall_clock
        self._host = host

    def fitted_config(self) -> MeshConfig:
        """The config of a run: limits of links are lower if the process may open too few descriptors."""
        config = self.config
        if (allowed := self._host.allow_descriptors(config.descriptors_limit)) is None:
            return config
        room = allowed - min(config.descriptors_kept, allowed // 2)
        wanted = config.links_limit + config.handshakes_limit
        if wanted <= room:
            return config
        links, strangers = (
            max(1, limit * room // wanted) for limit in (config.links_limit, config.handshakes_limit)
        )
        _log.warn(
            "this process may have {allowed} descriptors open: at most {links} links, and {strangers} "
            "connections that have proven nothing",
            allowed=allowed, links=links, strangers=strangers,
        )  # fmt: skip
        return replace(config, links_limit=links, handshakes_limit=strangers)

    def open_history(self) -> Store | None:
        """Open the store of the history; return None if the history is in memory only.

        :raises StoreError: the history file cannot be used.
        """
        if self._history is None:
            return None
        config = self.config
        owner = StoreOwner(self.network.id_with(self.policy.mode), self.identity.origin)
        authors = config.floors_limit + config.ended_limit
        limits = StoreLimits(config.store_bytes, config.store_seconds, config.closed_streams, authors)
        return SqliteStore(self._history, owner, limits, lambda: int(self.wall_clock() * 1000))

    def new_run(self, above: int, address: Address | None) -> LocalNode:
        """The description of the node in a new run of the core.

        :param above: the new epoch is higher than this, and than the epochs of all earlier runs.
        :param address: where others can dial the node.
        :raises IdentityError: the epoch cannot be written beside the key.
        """
        me, limits = self.identity, self.config
        wall_ms = int(self.wall_clock() * 1000)
        epoch = me.next_epoch(max(above + 1, wall_ms), self._host.draw)
        return LocalNode(
            me.id, me.origin, epoch, self.network, address, False, me.sign, self._host.verify,
            HpkeKeys(), self._profile,
            retention=int(limits.history_seconds if self._history is None else limits.store_seconds),
            ephemeral=me.path is None,
            earlier=me.earlier_runs(max(limits.history_seconds, limits.store_seconds), wall_ms),
            policy=self.policy,
        )  # fmt: skip

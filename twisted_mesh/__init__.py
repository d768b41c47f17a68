"""An alert and messaging mesh for Twisted.

The names below are imported when they are first used, so that a program which needs none of them, such as
the command ``mesh``, starts without Twisted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_mesh.public_names import __dir__ as __dir__
from twisted_mesh.public_names import __getattr__ as __getattr__
from twisted_mesh.version import __version__

if TYPE_CHECKING:
    from twisted_mesh import errors, flags
    from twisted_mesh.config import MeshConfig
    from twisted_mesh.delivery.named import NamedMessages
    from twisted_mesh.delivery.query import Query
    from twisted_mesh.delivery.queue import MessageQueue
    from twisted_mesh.delivery.receipts import Receipt
    from twisted_mesh.identity import Identity
    from twisted_mesh.links.factory import MeshFactory
    from twisted_mesh.links.protocol import MeshProtocol
    from twisted_mesh.mesh import MeshSocket
    from twisted_mesh.message import CaughtUp, Consumer, Gap, Member, Message, Packet, Refusal
    from twisted_mesh.network import Protocol
    from twisted_mesh.service import MeshService
    from twisted_mesh.trust.policy import Trust

__all__ = [
    "CaughtUp",
    "Consumer",
    "Gap",
    "Identity",
    "Member",
    "MeshConfig",
    "MeshFactory",
    "MeshProtocol",
    "MeshService",
    "MeshSocket",
    "Message",
    "MessageQueue",
    "NamedMessages",
    "Packet",
    "Protocol",
    "Query",
    "Receipt",
    "Refusal",
    "Trust",
    "__version__",
    "errors",
    "flags",
]

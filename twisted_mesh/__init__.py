"""An alert and messaging mesh for Twisted."""

from twisted_mesh import errors, flags
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.identity import Identity
from twisted_mesh.links.factory import MeshFactory
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.mesh import MeshSocket
from twisted_mesh.message import Gap, Member, Message, Refusal
from twisted_mesh.network import Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.version import __version__

__all__ = [
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
    "Protocol",
    "Receipt",
    "Refusal",
    "Trust",
    "__version__",
    "errors",
    "flags",
]

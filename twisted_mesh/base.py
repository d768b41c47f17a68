"""The names that code written for py2p imports from ``py2p.base``.

Contract: only names; ``from twisted_mesh import base`` replaces ``from py2p import base``.
"""

from __future__ import annotations

from twisted_mesh import flags
from twisted_mesh.message import Message
from twisted_mesh.network import Protocol

__all__ = ["Message", "Protocol", "flags"]

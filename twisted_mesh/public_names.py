"""Imports each public name of the package when it is first used.

Contract: ``twisted_mesh/__init__.py`` has these two functions as its own (PEP 562).  So a program that
needs none of the names, such as the command ``mesh``, starts without Twisted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

_PACKAGE: Final = "twisted_mesh"
#: Public modules that are attributes of the package, too.
_MODULES: Final = ("aio", "base", "errors", "flags", "mesh", "testing")
#: The modules in which the other names are.
_HOMES: Final = {
    "CaughtUp": "message",
    "Consumer": "message",
    "Gap": "message",
    "Identity": "identity",
    "Member": "message",
    "MeshConfig": "config",
    "MeshFactory": "links.factory",
    "MeshProtocol": "links.protocol",
    "MeshService": "service",
    "MeshSocket": "mesh",
    "Message": "message",
    "MessageQueue": "delivery.queue",
    "NamedMessages": "delivery.named",
    "Packet": "message",
    "Protocol": "network",
    "Query": "delivery.query",
    "Receipt": "delivery.receipts",
    "Refusal": "message",
    "Trust": "trust.policy",
}


def __getattr__(name: str) -> Any:
    """The public name *name* of the package."""
    if name in _HOMES:
        value = getattr(import_module(f"{_PACKAGE}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{_PACKAGE}.{name}")
    else:
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    setattr(sys.modules[_PACKAGE], name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*vars(sys.modules[_PACKAGE]), *_HOMES, *_MODULES})

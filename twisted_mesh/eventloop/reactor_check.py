"""Finds out that an asyncio loop runs where Twisted's reactor should.

Contract: a node that is started before ``reactor.run()`` is right, since the reactor runs later.  Inside a
running asyncio loop, a reactor that does not run yet will not run, so the node would do nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.base import ReactorBase


def check_reactor_runs(reactor: Any) -> None:
    """:raises RuntimeError: an asyncio loop runs in this thread, and *reactor* does not run."""
    if isinstance(reactor, ReactorBase) and not reactor.running and _loop_runs():
        raise RuntimeError(
            "an asyncio loop runs here and Twisted's reactor does not, so nothing would run this node: "
            "use twisted_mesh.aio.Mesh, or let Twisted's asyncio reactor run the loop"
        )


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

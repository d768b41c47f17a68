"""Bodies of batches, unpacked for tests."""

from __future__ import annotations

from typing import Any

from twisted_mesh.wire.bodies import unpack_weighed


def unpack_entries(body: bytes | memoryview, count: int | None = None) -> list[list[Any]]:
    """The entries in *body*, as ``unpack_weighed()`` returns them, each a list, without their size."""
    return list(map(list, unpack_weighed(body, count)[0]))

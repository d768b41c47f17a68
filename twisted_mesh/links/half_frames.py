"""Limits the bytes that all links keep of unfinished frames.

Contract: each link tells :meth:`HalfFrames.note` how many bytes of an unfinished frame it keeps.  All links
together keep at most ``half_frames_bytes``.  If there are more, a link of the site that keeps most is
closed: the one that brought least in ``dead_after`` seconds, since honest links bring the rest of a frame.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from twisted_mesh.config import MeshConfig
from twisted_mesh.links.protocol import MeshProtocol


@dataclass(eq=False, slots=True)
class _Half:
    """A link with an unfinished frame; *read_before* and *read*: bytes it had brought at two times."""

    link: MeshProtocol
    size: int
    at: float  # the later of the two times, at least half a window after the earlier one
    read: int
    read_before: int

    def brought(self, window: float, now: float) -> int:
        """The bytes that came in the last *window* seconds, or at least in the last half of them."""
        before = self.read if now - self.at >= window / 2 else self.read_before
        return self.link.read_bytes - before


class HalfFrames:
    """The unfinished frames of one run."""

    def __init__(self, config: MeshConfig) -> None:
        self._most = config.half_frames_bytes
        self._window = config.dead_after
        self._halves: dict[int, _Half] = {}
        self._size = 0

    def note(self, link: MeshProtocol, size: int, now: float) -> MeshProtocol | None:
        """Note that *link* keeps *size* bytes; if all links keep too many, return the link to close."""
        half = self._halves.get(link.number)
        if not size:
            self.gone(link)
            return None
        if half is None:
            read = link.read_bytes
            half = self._halves[link.number] = _Half(link, 0, now, read, read - size)
        elif now - half.at >= self._window / 2:
            half.read_before, half.read, half.at = half.read, link.read_bytes, now
        self._size += size - half.size
        half.size = size
        return self._least(now) if self._size > self._most else None

    def gone(self, link: MeshProtocol) -> None:
        """Forget *link*: its frame is whole, or it closes."""
        if (half := self._halves.pop(link.number, None)) is not None:
            self._size -= half.size

    def _least(self, now: float) -> MeshProtocol:
        """The link to close: of the site that keeps most, the link that brought least lately."""
        kept: Counter[str] = Counter()
        for half in self._halves.values():
            kept[half.link.site] += half.size
        ((site, _),) = kept.most_common(1)
        there = (half for half in self._halves.values() if half.link.site == site)
        return min(there, key=lambda half: half.brought(self._window, now)).link

    def footprint(self) -> dict[str, int]:
        return {"half_frames": len(self._halves), "half_frames_bytes": self._size}

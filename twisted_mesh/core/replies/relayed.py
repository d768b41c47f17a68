"""The direct messages that are over, as a relay can tell.

Contract: a DIRECT names the oldest message that its author still repeats.  A relay remembers that for each
author and destination.  Earlier messages were delivered or given up: a node that sends one of them again
would only take the time and the line that relays give to its author, so it is not passed on.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.wire.replies import Direct

PAIRS_MOST: Final = 16_384  # authors with destinations; the longest idle is forgotten (guess: 7 MB)


@dataclass(eq=False)
class Relayed:
    """How far the direct messages are that this node passes on; ``len()`` counts the pairs of nodes."""

    # By author and destination: the epochs of both, and the oldest message that is repeated.
    _oldest: OrderedDict[tuple[bytes, bytes], tuple[int, int, int]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._oldest)

    def is_over(self, direct: Direct) -> bool:
        """Whether no message of *direct* is repeated any more, or a newer run of either node is known."""
        known = self._oldest.get((direct.origin, direct.destination))
        return known is not None and (direct.epoch, direct.destination_epoch, direct.last) < known

    def note(self, direct: Direct) -> None:
        """Note a message that is verified and passed on."""
        pair = direct.origin, direct.destination
        told = direct.epoch, direct.destination_epoch, direct.oldest
        self._oldest[pair] = max(told, self._oldest.get(pair, told))
        self._oldest.move_to_end(pair)
        if len(self._oldest) > PAIRS_MOST:
            self._oldest.popitem(last=False)

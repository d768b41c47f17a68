"""How many false addresses of other nodes this node dials on the word of one peer.

Contract: walks, shuffles and requests to move have addresses that nobody has signed.  If this node dials
such an address and does not find the node there, that counts for the peer that told it: :data:`FALSE_BURST`
in a row, and one in ``dial_again``.  Beyond that, what the peer tells of others is not learned, and nobody
is dialled on its word.  The peer is not blamed, and its link stays: others may have told it the addresses.
Records count for no peer, since nodes sign their own addresses in them.  Peers are told apart by their site
if it is counted, and else by their ids, so that to link anew with another key is no new beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit

#: False addresses of one peer that are dialled in a row (guess): nodes that have just gone are told, too.
FALSE_BURST: Final = 4
#: Peers whose false addresses are counted; the one that told a false one longest ago is forgotten (guess).
TELLERS_MOST: Final = 1024


@dataclass(eq=False)
class Tellers:
    """The peers that have told false addresses lately."""

    _config: MeshConfig
    # By teller, the one that told a false address last at the end.
    _rates: OrderedDict[bytes, RateLimit] = field(default_factory=OrderedDict)
    _dialled: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)  # by id, its teller

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"false_tellers": len(self._rates), "dials_on_word": len(self._dialled)}

    def is_heeded(self, teller: bytes, now: float) -> bool:
        """Whether to dial nodes on the word of *teller*."""
        rate = self._rates.get(teller)
        return rate is None or rate.has(now)

    def dialled(self, id: bytes, teller: bytes) -> None:
        """Note that the node *id* is dialled on the word of *teller*."""
        self._dialled[id] = teller
        if len(self._dialled) > self._config.dials_at_once:
            self._dialled.popitem(last=False)

    def ended(self, id: bytes) -> bytes | None:
        """Note that the dial of the node *id* has ended; return who told of the node, or None."""
        return self._dialled.pop(id, None)

    def told_falsely(self, teller: bytes, now: float) -> None:
        """Count an address that *teller* told, and at which the node was not found."""
        rate = self._rates.setdefault(teller, RateLimit(FALSE_BURST, 1 / self._config.dial_again))
        self._rates.move_to_end(teller)
        rate.take(now)
        if len(self._rates) > TELLERS_MOST:
            self._rates.popitem(last=False)

"""Members that ask for everything again and again, and name runs and authors that there are not.

Contract: each is an :class:`~twisted_mesh.simulation.adversaries.adversary.Adversary`.  Every honest
member must still get all messages, and no table may be over its limit.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.member import Surroundings
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, Want

_AT_A_TIME: Final = 20  # names in a frame
_FAR: Final = 2**40  # the last message that is asked for


class Asker(Adversary):
    """Asks every neighbour for all that it holds itself; claims and prunes names that it makes up.

    :ivar named: how many names it has made up.
    """

    pace = 0.25

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.named = 0

    def act(self) -> None:
        """Ask, claim and prune."""
        if not self.node.membership.joined:
            return
        for stream in islice(self.node.history, _AT_A_TIME):
            self.put(Want(*stream.run, 1, _FAR, True))
        names = [self._name() for _ in range(_AT_A_TIME)]
        self.put(
            Have([HaveEntry(name, 1, 1, 1, coming=number % 2) for number, name in enumerate(names)], False)
        )
        self.put(Prune(names))

    def _name(self) -> bytes:
        self.named += 1
        return b"%016d%016d" % (self.number, self.named)

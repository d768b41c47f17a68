"""By which way one message came to the nodes of a mesh, who their neighbours are, and how much they lack.

:meth:`.MeshService.trace`, :meth:`.MeshService.graph` and :meth:`.MeshService.lag` give these values.

Contract: each step is the claim of its node alone.  No clock of one node is compared with that of another:
each duration was measured by one node.
"""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True):
    """What one node says about the message.

    :ivar state: ``"came"``, and it knows by which way; ``"forgotten"``: it came, or was given up, or was
        before the node's time; ``"missing"``: it has not come; ``"silent"``: the node did not answer;
        ``"down"``: it was not asked; ``"listens"``: nor was it, since its grant lets it only listen.
    :ivar source: the id of the neighbour that brought it first; None for the author, or if none is known.
    :ivar repaired: whether the node had asked for it; else it was pushed.
    :ivar hops: how many nodes had passed it on.
    :ivar age_seconds: for how long it was there when the node answered.
    :ivar taken: whether the application had taken it.
    :ivar held_seconds: how long that took; None if it is not known.
    :ivar pushed_to: the ids of the neighbours to which the node pushed it.
    """

    id: str
    label: str | None
    state: str
    source: str | None = None
    repaired: bool = False
    hops: int = 0
    age_seconds: float = 0.0
    taken: bool = False
    held_seconds: float | None = None
    pushed_to: list[str] = []


class Trace(msgspec.Struct, frozen=True):
    """The way of one message.

    :ivar author: the author's id; :ivar epoch: of its run; :ivar sequence: the message's number there.
    :ivar steps: one for each node, this one first.
    """

    author: str
    epoch: int
    sequence: int
    steps: list[Step]


class Neighbours(msgspec.Struct, frozen=True):
    """What one node says about its links.

    :ivar state: ``"up"`` if it has answered, ``"silent"`` if it has not; ``"down"`` if it was not asked,
        and ``"listens"`` if that was since its grant lets it only listen.
    :ivar neighbours: the ids of the nodes that it is linked with, 256 at most.
    """

    id: str
    label: str | None
    state: str
    neighbours: list[str]


class Lag(msgspec.Struct, frozen=True):
    """How far behind one node is, of all authors together, as it says.

    :ivar state: as that of :class:`Neighbours`.
    :ivar missing: how many messages it knows to exist that have not come; None if it has not answered.
    :ivar untaken: how many have come that its application has not taken; None likewise.
    """

    id: str
    label: str | None
    state: str
    missing: int | None
    untaken: int | None

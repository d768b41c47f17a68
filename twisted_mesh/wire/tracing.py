"""Questions of people to nodes, and the answers, in the entries of direct messages.

They are by which way a message came, with which nodes a node is linked, and how much it lacks.

Contract: a question and an answer are entries of kinds of their own, which nodes that do not know them
acknowledge and ignore.  An answer is its author's own claim: nothing is decided by it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry
from twisted_mesh.wire.fields import Number, Origin, Sequence

MOST_NAMED: Final = 256  # neighbours named in an answer; further ones are left out (docs/protocol.rst)
_NO_TYPE: Final = 0  # stands where other entries have their type

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Neighbours = Annotated[list[Origin], msgspec.Meta(max_length=MOST_NAMED)]


class Known(IntEnum):
    """What a node knows of a message."""

    MISSING = 0  #: it has not come
    CAME = 1  #: it came, or was published here, and the way is remembered
    FORGOTTEN = 2  #: it came, or was given up, or was before the node's time: no way is remembered


class Telling(msgspec.Struct, array_like=True, frozen=True):
    """A question or an answer.

    :cvar entry_kind: the kind of the entry that holds it.
    """

    entry_kind: ClassVar[int]

    def pack(self) -> bytes:
        """The entry that holds it."""
        return _encode([self.entry_kind, _NO_TYPE, *msgspec.to_builtins(self, builtin_types=(bytes,))])


class WayQuestion(Telling, array_like=True, frozen=True):
    """Asks by which way the message *sequence* of a run came."""

    entry_kind: ClassVar = 1
    origin: Origin
    epoch: Number
    sequence: Sequence


class WayAnswer(Telling, array_like=True, frozen=True):
    """What the node that answers says about the message.

    :ivar source: the neighbour that brought the message first; None if there is none, or it is forgotten.
    :ivar pulled: whether the message came as the answer to a WANT.
    :ivar hops: how many nodes had passed it on.
    :ivar age: milliseconds since it came; :ivar held: from then until the application had taken it, None if
        it has not, or if that is not known.
    :ivar taken: whether the application has taken it.
    :ivar pushed: the neighbours to which it was pushed.
    """

    entry_kind: ClassVar = 2
    known: Annotated[int, msgspec.Meta(ge=0, le=255)]
    source: Origin | None
    pulled: bool
    hops: Annotated[int, msgspec.Meta(ge=0, le=255)]
    age: Milliseconds
    taken: bool
    held: Milliseconds | None
    pushed: Neighbours


class LinksQuestion(Telling, array_like=True, frozen=True):
    """Asks with which nodes a node is linked."""

    entry_kind: ClassVar = 3


class LinksAnswer(Telling, array_like=True, frozen=True):
    """With which nodes the node that answers is linked."""

    entry_kind: ClassVar = 4
    neighbours: Neighbours


class LagQuestion(Telling, array_like=True, frozen=True):
    """Asks how many messages a node lacks."""

    entry_kind: ClassVar = 5


class LagAnswer(Telling, array_like=True, frozen=True):
    """How far behind the node that answers is, of all authors together.

    :ivar missing: messages that it knows to exist and that have not come.
    :ivar untaken: messages that have come and that its application has not taken.
    """

    entry_kind: ClassVar = 6
    missing: Number
    untaken: Number


Asked = WayQuestion | LinksQuestion | LagQuestion  #: the questions
Told = WayAnswer | LinksAnswer | LagAnswer  #: the answers
_TYPES: Final[dict[int, type[Telling]]] = {
    type_.entry_kind: type_
    for type_ in (WayQuestion, WayAnswer, LinksQuestion, LinksAnswer, LagQuestion, LagAnswer)
}
_encode = msgspec.msgpack.Encoder().encode


def unpack(entry: Entry) -> Telling | None:
    """The question or the answer in *entry*; None if it holds none.

    Fields of later versions are ignored.

    :raises PoisonedBody: it is of the kind of one, and is none.
    """
    if (type_ := _TYPES.get(entry[0])) is None:
        return None
    try:
        return msgspec.convert(entry[2:], type_)
    except msgspec.ValidationError as error:
        raise PoisonedBody(f"an entry that is no {type_.__name__}: {error}") from None

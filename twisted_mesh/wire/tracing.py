"""By which way a message came: the question, and a node's answer, in the entries of direct messages.

Contract: a question and an answer are entries of kinds of their own, which nodes that do not know them
acknowledge and ignore.  An answer is its author's own claim: nothing is decided by it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec

from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry
from twisted_mesh.wire.fields import Number, Origin, Sequence

QUESTION_ENTRY: Final = 1  #: the kind of an entry that holds a :class:`WayQuestion`
ANSWER_ENTRY: Final = 2  #: the kind of an entry that holds a :class:`WayAnswer`
MOST_PUSHED: Final = 256  # neighbours named in an answer; further ones are left out (docs/protocol.rst)
_NO_TYPE: Final = 0  # stands where other entries have their type

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
EntryT = TypeVar("EntryT", bound="WayQuestion | WayAnswer")


class Known(IntEnum):
    """What a node knows of a message."""

    MISSING = 0  #: it has not come
    CAME = 1  #: it came, or was published here, and the way is remembered
    FORGOTTEN = 2  #: it came, or was given up, or was before the node's time: no way is remembered


class WayQuestion(msgspec.Struct, array_like=True, frozen=True):
    """Asks by which way the message *sequence* of a run came."""

    origin: Origin
    epoch: Number
    sequence: Sequence

    def pack(self) -> bytes:
        """The entry that holds the question."""
        return _encode([QUESTION_ENTRY, _NO_TYPE, *msgspec.to_builtins(self, builtin_types=(bytes,))])


class WayAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What the node that answers says about the message.

    :ivar source: the neighbour that brought the message first; None if there is none, or it is forgotten.
    :ivar pulled: whether the message came as the answer to a WANT.
    :ivar hops: how many nodes had passed it on.
    :ivar age: milliseconds since it came; :ivar held: from then until the application had taken it, None if
        it has not, or if that is not known.
    :ivar taken: whether the application has taken it.
    :ivar pushed: the neighbours to which it was pushed.
    """

    known: Annotated[int, msgspec.Meta(ge=0, le=255)]
    source: Origin | None
    pulled: bool
    hops: Annotated[int, msgspec.Meta(ge=0, le=255)]
    age: Milliseconds
    taken: bool
    held: Milliseconds | None
    pushed: Annotated[list[Origin], msgspec.Meta(max_length=MOST_PUSHED)]

    def pack(self) -> bytes:
        """The entry that holds the answer."""
        return _encode([ANSWER_ENTRY, _NO_TYPE, *msgspec.to_builtins(self, builtin_types=(bytes,))])


_encode = msgspec.msgpack.Encoder().encode


def unpack(entry: Entry, type_: type[EntryT]) -> EntryT:
    """The question or the answer in *entry*; fields of later versions are ignored.

    :raises PoisonedBody: it holds none.
    """
    try:
        return msgspec.convert(entry[2:], type_)
    except msgspec.ValidationError as error:
        raise PoisonedBody(f"an entry that is no {type_.__name__}: {error}") from None

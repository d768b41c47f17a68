"""Messages as packed entries, checked when they are packed and when they are unpacked.

Contract: an *entry* is one message, the msgpack array ``[kind, type, *packets]``; a batch's *body* is a
msgpack array of entries.  Packets are ``str bytes int float bool None list dict``, nested to a depth of 32.
A dict key is of one of the first six types; at most 4,096 keys of one dict are numbers.  The messages of a
batch hold at most 16,384 lists and dicts, all together.  If the application sends any other value, that
raises TypeError or ValueError: msgspec alone would pack sets and dates, and unpack them as other types.  If
an author sent any other value, that raises :class:`~twisted_mesh.errors.PoisonedBody`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Literal

import msgspec

from twisted_mesh.errors import MessageTooLarge, PoisonedBody
from twisted_mesh.flags import broadcast, is_user_type
from twisted_mesh.grammar import a, counted
from twisted_mesh.wire import unpack_guard
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.framing import MAX_MESSAGE_BYTES
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS, MAX_DEPTH, MAX_NUMBER_KEYS

Entry = Sequence[Any]
USER_ENTRY: Final = 0  # the kind of an entry that holds an application's message
ASKS: Final = 64  # added to an entry's kind if its author asks for receipts
USERS: Final = frozenset({USER_ENTRY, USER_ENTRY | ASKS})
kind_of: Final = itemgetter(0)  #: returns the kind of an entry
_type_of: Final = itemgetter(1)
#: Bytes counted for a value; unpacked, it takes 8 to 70 besides its text (measured).
_VALUE_BYTES: Final = 16
_CONTAINER_VALUES: Final = 4  # values that a list or dict counts as; an empty one takes 72 bytes (measured)
_FREE_VALUES: Final = 16  # values of a message that are not counted (guess: most messages have fewer)
_OF_THREE: Final = 0x93  # the first byte of an entry with kind, type and one packet
_SHORTEST: Final = 5  # bytes of a body with one of these
_PLAIN_STARTS: Final = frozenset({b"\x00\x00", b"\x00\x02"})  # the kind and type of a plain entry
_BYTES_TAGS: Final = frozenset({0xC4, 0xC5, 0xC6})  # how msgpack begins bytes
SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})
_INTEGERS: Final = frozenset({int})
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode
# Two decoders for each shape, since one type of msgspec cannot allow both text and bytes.
_Plain = Literal[0]  # the kind of a message whose author does not ask for receipts
_Usual = Literal[0, 2]  # the types of most messages: to everybody, and to one node
_decode_plain_text = msgspec.msgpack.Decoder(
    tuple[tuple[_Plain, _Usual, bool | int | float | str | None], ...]
).decode
_decode_plain_bytes = msgspec.msgpack.Decoder(
    tuple[tuple[_Plain, _Usual, bool | int | float | bytes | None], ...]
).decode
_User = Literal[0, 64]
_decode_one_text = msgspec.msgpack.Decoder(list[tuple[_User, int, bool | int | float | str | None]]).decode
_decode_one_bytes = msgspec.msgpack.Decoder(
    list[tuple[_User, int, bool | int | float | bytes | None]]
).decode
_decode_text = msgspec.msgpack.Decoder(list[list[bool | int | float | str | None]]).decode
_decode_bytes = msgspec.msgpack.Decoder(list[list[bool | int | float | bytes | None]]).decode


class NestedEntry(bytes):
    """A packed entry with lists or dicts in it.

    :ivar containers: how many lists and dicts there are.
    """

    containers: int

    @classmethod
    def of(cls, packed: bytes, containers: int) -> NestedEntry:
        entry = cls(packed)
        entry.containers = containers
        return entry


def containers_in(entry: bytes) -> int:
    """How many lists and dicts there are in *entry*, of :func:`pack_entry` or :func:`split_entries`."""
    return entry.containers if isinstance(entry, NestedEntry) else 0


def pack_entry(type_: int, packets: Sequence[object], *, asks: bool = False) -> bytes:
    """Pack one message of an application.

    :param asks: whether the message asks for receipts.
    :raises TypeError: a packet, or a value in it, is of a type that cannot be sent.
    :raises ValueError: depth over 32, over 16,384 lists and dicts, a list or dict inside itself, a dict
        with over 4,096 numbers as keys, an integer outside -2^63..2^64-1, text that is no Unicode.
    :raises MessageTooLarge: over 1 MiB packed.
    """
    containers = 0
    for packet in packets:
        if type(packet) not in SCALARS:
            walk = _Walk()
            walk.values(packets)
            containers = walk.containers
            break
    try:
        packed = encode([USER_ENTRY | ASKS if asks else USER_ENTRY, type_, *packets])
    except OverflowError:
        raise ValueError("integers must be within -2^63..2^64-1") from None
    if len(packed) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"the message has {len(packed)} bytes packed; at most {MAX_MESSAGE_BYTES} are allowed"
        )
    return NestedEntry.of(packed, containers) if containers else packed


def pack_plain(packets: Sequence[object]) -> bytes | None:
    """Pack one message of type 0 as :func:`pack_entry` does, in three quarters of its time (measured).

    :return: None if another check is needed: of lists and dicts, of types, of large integers.  The size is
        left to the caller.
    """
    for packet in packets:
        if type(packet) not in SCALARS:
            return None
    try:
        return encode([USER_ENTRY, broadcast, *packets])
    except OverflowError:
        return None


def pack_many(type_: int, packets: Sequence[object]) -> list[bytes]:
    """Pack a message for each of *packets*, as :func:`pack_entry` does.

    Strings, bytes and numbers are looked at all together, which takes half the time (measured).

    :raises TypeError: and ValueError and MessageTooLarge: one of them cannot be sent.
    """
    if SCALARS.issuperset(map(type, packets)):
        with suppress(OverflowError, ValueError):  # pack_entry() raises that of the first, in words
            entries = [encode([USER_ENTRY, type_, packet]) for packet in packets]
            if max(map(len, entries), default=0) <= MAX_MESSAGE_BYTES:
                return entries
    return [pack_entry(type_, (packet,)) for packet in packets]


def join_entries(entries: Sequence[bytes]) -> bytes:
    """The body of a batch of packed *entries*, 1 to 65,535; that of a direct message may have none."""
    count = len(entries)
    header = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join((header, *entries))


def split_entries(body: bytes | memoryview) -> list[bytes]:
    """The packed entries that :func:`join_entries` made *body* of."""
    return [pack_entry(type_, packets, asks=kind != USER_ENTRY) for kind, type_, *packets in _decode(body)]


def unpack_weighed(body: bytes | memoryview, count: int | None = None) -> tuple[Sequence[Entry], int]:
    """The entries in *body*, and their size, which grows with the memory that they take unpacked.

    It is the size of *body* in bytes, and 16 bytes more for each value above 16 in a message, on average.

    :param count: how many entries there must be, if that is known.
    :raises PoisonedBody: *body* is no list of that many entries, or of more than 16,384.
    """
    if (entries := _unpack_ones(body, count)) is not None:
        return entries, len(body)
    return _unpack_any(bytes(body), count)


def are_plain(entries: Sequence[Entry]) -> bool:
    """Whether it is known that no author of *entries* asks for receipts, and each holds a message.

    To look at the kind of each entry takes 0.02 us a message (measured).
    """
    return type(entries) is tuple


def _unpack_ones(body: bytes | memoryview, count: int | None) -> Sequence[Entry] | None:
    """The entries in *body* if each is a message of one packet that is no list or dict; None otherwise.

    Most bodies are of that kind.  The decoder checks all of it: this takes 0.07 us for a message of 64
    bytes, :func:`_unpack_any` 0.33 (measured).  It refuses the first list or dict inside an entry, so the
    guard is not needed.

    :return: a tuple if :func:`are_plain` holds.
    """
    if len(body) < _SHORTEST or (body[1] != _OF_THREE and body[3] != _OF_THREE):
        return None
    try:
        messages = unpack_guard.length_of(body)
    except ValueError:
        return None
    if messages > MAX_BATCH_COUNT or (count is not None and count != messages):
        return None
    first = body[2:5] if body[1] == _OF_THREE else body[4:7]  # kind, type, and the tag of the packet
    if bytes(first[:2]) in _PLAIN_STARTS and len(first) == 3:
        with suppress(msgspec.MsgspecError):
            return (_decode_plain_bytes if first[2] in _BYTES_TAGS else _decode_plain_text)(body)
    for decode in (_decode_one_bytes, _decode_one_text):
        try:
            entries: Sequence[Entry] = decode(body)
        except msgspec.MsgspecError:
            continue
        return entries if all(map(is_user_type, set(map(_type_of, entries)))) else None
    return None


def _unpack_any(body: bytes, count: int | None) -> tuple[Sequence[Entry], int]:
    """As :func:`unpack_weighed`, for every body."""
    flat: list[list[Any]] | None = None
    try:
        if len(body) > MAX_CONTAINERS:
            flat = _unpack_flat(body, count)
        if (entries := flat) is None:
            unpack_guard.check(body)
            entries = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PoisonedBody(f"a body that is no list of messages: {error}") from None
    if count is not None and len(entries) != count:
        raise PoisonedBody(f"a body of {counted(len(entries), 'message')} that says it has {count}")
    # A loop over the entries would take several times as long as map() and sets (measured).
    if not _begin_with_integers(entries):
        raise PoisonedBody("an entry that does not begin with its kind and type")
    users = entries
    if not USERS.issuperset(map(kind_of, entries)):
        users = [entry for entry in entries if entry[0] in USERS]
    for type_ in set(map(_type_of, users)):
        if not is_user_type(type_):
            raise PoisonedBody(f"a message of the protocol's own type {type_}")
    if flat is None and not SCALARS.issuperset(map(type, chain.from_iterable(entries))):
        try:
            values = sum(_check_decoded(entry, 0) for entry in entries)
        except ValueError as error:
            raise PoisonedBody(f"a message that cannot be unpacked: {error}") from None
    else:
        values = sum(map(len, entries))
    return entries, len(body) + _VALUE_BYTES * max(0, values - _FREE_VALUES * len(entries))


def _unpack_flat(body: bytes, count: int | None) -> list[list[Any]] | None:
    """The entries in *body* if they hold neither lists and dicts nor text beside bytes; None otherwise.

    :raises ValueError: *body* is no list of *count* entries, or has more than any batch.
    """
    messages = unpack_guard.length_of(body)
    if messages > MAX_BATCH_COUNT or (count is not None and count != messages):
        raise ValueError(f"it has {messages}")
    # Both are as fast as _decode (measured), and stop at the first list or dict inside an entry.
    for decode in (_decode_text, _decode_bytes):
        try:
            return decode(body)
        except msgspec.MsgspecError:
            pass
    return None


def _begin_with_integers(entries: list[list[Any]]) -> bool:
    try:
        kinds, types = map(type, map(kind_of, entries)), map(type, map(_type_of, entries))
        return _INTEGERS.issuperset(kinds) and _INTEGERS.issuperset(types)
    except IndexError:
        return False


def _check_decoded(values: Collection[object], depth: int) -> int:
    """Refuse unpacked values that are dates or extensions, or nested too deep; return how many there are.

    Each list or dict counts as :data:`_CONTAINER_VALUES` more.
    """
    count = len(values)
    for value in values:
        kind = type(value)
        if kind in SCALARS:
            continue
        if depth == MAX_DEPTH:
            raise ValueError(f"packets nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict) and SCALARS.issuperset(map(type, value)):
            count += _CONTAINER_VALUES + _check_decoded(value.values(), depth + 1) + len(value)
        elif isinstance(value, list):
            count += _CONTAINER_VALUES + _check_decoded(value, depth + 1)
        else:
            raise ValueError(f"it holds {a(kind.__name__)}, or one as a dict key")
    return count


class _Walk:
    """Checks packets of the application: they can be of any type, and a list can hold itself."""

    __slots__ = ("_around", "_bytes", "containers")

    def __init__(self) -> None:
        self.containers = 0  # lists and dicts, counted once for each place where they are
        self._bytes = 0  # of the packets as packed, at least
        self._around: set[int] = set()  # id() of each list and dict around the present value

    def values(self, values: Collection[object], depth: int = 0) -> None:
        """Check *values*; the errors are those of :func:`pack_entry`."""
        self._bytes += len(values)
        self._check_size()
        for value in values:
            kind = type(value)
            if kind is str or kind is bytes:
                self._bytes += len(value)  # type: ignore[arg-type]
            elif kind not in SCALARS:
                self._container(kind, value, depth)
        self._check_size()

    def _container(self, kind: type, value: Any, depth: int) -> None:
        if kind is not list and kind is not dict and kind is not tuple:
            raise TypeError(
                f"a packet holds {kind.__qualname__!r}; only str, bytes, int, float, bool, "
                "None, list and dict can be sent"
            )
        if id(value) in self._around:
            raise ValueError("a list or dict holds itself")
        if depth == MAX_DEPTH:
            raise ValueError(f"packets may be nested to a depth of {MAX_DEPTH}")
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise ValueError(f"a message may hold at most {MAX_CONTAINERS} lists and dicts")
        self._around.add(id(value))
        if kind is dict:
            self._keys(value)
        self.values(value.values() if kind is dict else value, depth + 1)
        self._around.discard(id(value))

    def _keys(self, keys: Collection[object]) -> None:
        if not SCALARS.issuperset(map(type, keys)):
            raise TypeError("a dict key may be a str, bytes, int, float, bool or None only")
        if len(keys) > MAX_NUMBER_KEYS < sum(type(key) in (int, float) for key in keys):
            raise ValueError(
                f"a dict may have {MAX_NUMBER_KEYS} numbers as keys, since they could all collide; "
                "str and bytes cannot"
            )
        self.values(keys)

    def _check_size(self) -> None:
        # A list that is in many places of a packet is packed many times: small packets can become huge.
        if self._bytes > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(f"the message is over {MAX_MESSAGE_BYTES} bytes packed")

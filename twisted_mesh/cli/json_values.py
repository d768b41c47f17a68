"""Values of messages and events as JSON, and back.

Contract: different values give different JSON (RFC 8259: no NaN), and :func:`from_json` undoes
:func:`as_json`.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from twisted_mesh.message import CaughtUp, Gap, Member, Message, Refusal
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS, MAX_DEPTH, MAX_NUMBER_KEYS

#: Values that are read from one JSON text (measured: to read and send them takes 0.1 s).  A message that is
#: full of floats has fewer.
MAX_VALUES: Final = 131_072


def as_json(value: Any) -> Any:
    """*value* as JSON; a value that JSON cannot express becomes an object with one key that begins with $.

    ``{"$b": base64}`` is bytes; ``{"$f": "NaN"}``, ``"Infinity"`` and ``"-Infinity"`` are floats;
    ``{"$d": [[key, value], …]}`` is a dict of which a key is no str, or begins with ``$``.
    """
    if isinstance(value, bytes):
        return {"$b": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$f": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: as_json(item) for key, item in value.items()}
        return {"$d": [[as_json(key), as_json(item)] for key, item in value.items()]}
    return value


def from_json(value: Any) -> Any:
    """The value that :func:`as_json` made *value* of.

    :raises ValueError: an object whose key begins with ``$`` is none of those that :func:`as_json` makes;
        or there are more values than :data:`MAX_VALUES`; or there are more lists, objects or numbers as
        keys than a message can have, or they are nested deeper.
    """
    return _Reader().read(value, 0)


class _Reader:
    """Reads one value, and counts the values in it, and its lists and objects."""

    def __init__(self) -> None:
        self._containers = 0
        self._values = 0

    def read(self, value: Any, depth: int) -> Any:
        if not isinstance(value, (list, dict)):
            return value
        self._containers += 1
        self._count(len(value))
        if self._containers > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} lists and objects")
        if depth > 2 * MAX_DEPTH:  # a dict with keys that are no text takes two levels
            raise ValueError(f"lists and objects are nested deeper than {MAX_DEPTH}")
        if isinstance(value, list):
            return [self.read(item, depth + 1) for item in value]
        return self._object(value, depth + 1)

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")

    def _object(self, value: dict[str, Any], depth: int) -> Any:
        if not any(key.startswith("$") for key in value):
            return {key: self.read(item, depth) for key, item in value.items()}
        match value:
            case {"$b": str(text)} if len(value) == 1:
                try:
                    return base64.b64decode(text, validate=True)
                except binascii.Error as error:
                    raise ValueError(f'"$b" is base64: {error}') from None
            case {"$f": "NaN" | "Infinity" | "-Infinity" as text} if len(value) == 1:
                return float(text)
            case {"$d": list(pairs)} if len(value) == 1 and all(map(_is_pair, pairs)):
                self._count(2 * len(pairs))
                items = [(self.read(key, depth), self.read(item, depth)) for key, item in pairs]
                if sum(isinstance(key, int | float) for key, _ in items) > MAX_NUMBER_KEYS:
                    raise ValueError(f"more than {MAX_NUMBER_KEYS} numbers as keys")
                if not any(isinstance(key, (list, dict)) for key, _ in items):
                    return dict(items)
        raise ValueError(f"an object whose key begins with $ is $b, $f or $d, not {', '.join(value)}")


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def fields_of(
    value: Message | Member | Gap | Refusal | CaughtUp, label_of: Callable[[bytes], str | None]
) -> dict[str, Any]:
    """The fields of a message or of an event's value, with ids as text.

    :param label_of: gives the label of the node with an id, None if it has none or is not known.
    """
    if isinstance(value, Message):
        return {
            "sender": value.sender.decode(),
            "epoch": value.source.run[1],
            "sequence": value.sequence,
            "time": value.time,
            "type": value.type,
            "packets": as_json(value.packets[1:]),
            "label": label_of(value.sender),
        }
    fields = msgspec.structs.asdict(value).items()
    return {name: _plain(item) for name, item in fields}


def _plain(item: object) -> object:
    if isinstance(item, bytes):
        return item.decode()
    return dict(item) if isinstance(item, Mapping) else item

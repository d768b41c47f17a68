"""The bodies and arguments of requests, and how a request is refused.

Contract: a body that is no JSON object with the right fields and values is a :class:`Refused`, with a
sentence that says so.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from twisted.web import http
from twisted.web.server import Request as WebRequest

from twisted_mesh.admin.site import Refused
from twisted_mesh.cli.json_values import from_json

_LONGEST: Final = 3600.0  # seconds that a client may wait (guess)
_MISSING: Final = re.compile("Object missing required field `(.*)`")
_UNKNOWN: Final = re.compile("Object contains unknown field `(.*)`")
BodyT = TypeVar("BodyT", bound=msgspec.Struct)


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """:ivar wait_seconds: how long to wait for what the client asks for, at most."""

    wait_seconds: float


class Packets(Body, kw_only=True):
    """A message.

    :ivar packets: its values, as :mod:`twisted_mesh.cli.json_values` reads them.
    :ivar type: the application's own type; None for the usual one.
    """

    packets: list[Any]
    type: int | None = None


class Send(Packets, kw_only=True):
    """The body of ``POST /send``.

    :ivar to: an id, the beginning of one or a label: the member that gets the message alone.
    :ivar receipt: whether the answer comes at once, with the number of a receipt for ``POST /receipt``.
    """

    to: str | None = None
    receipt: bool = False
    wait_seconds: float = 0.0


class SentReceipt(Body, kw_only=True):
    """The body of ``POST /receipt``: the number that ``POST /send`` gave."""

    receipt: int
    wait_seconds: float = 0.0


class Request(Packets, kw_only=True):
    """The body of ``POST /request``; *to* is as in :class:`Send`."""

    to: str
    wait_seconds: float = 10.0


class Query(Packets, kw_only=True):
    """The body of ``POST /query``."""

    wait_seconds: float = 5.0


class Ping(Body, kw_only=True):
    """The body of ``POST /ping``.

    :ivar to: the one member to ask, as in :class:`Send`; None for all.
    """

    to: str | None = None
    wait_seconds: float = 5.0


class Lag(Body, kw_only=True):
    """The body of ``POST /lag``."""

    wait_seconds: float = 5.0


class Trace(Body, kw_only=True):
    """The body of ``POST /trace``.

    :ivar author: this node or a member, named as in :class:`Send`.
    :ivar epoch: of its run; None for its newest.
    :ivar sequence: of the message; None for the newest that is here.
    """

    author: str
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**62)] | None = None
    wait_seconds: float = 5.0


class Forget(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /forget``, which has one of the two.

    :ivar member: the member to forget, named as in :class:`Send`.
    :ivar consumer: the name of the consumer to forget.
    """

    member: str | None = None
    consumer: str | None = None


class Ack(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /ack``.

    :ivar consumer: its name.
    :ivar id: the id of the event with the last message that is done.
    """

    consumer: str
    id: str


class Cut(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /cut``: the node to be removed, by its id, the beginning of one, or its label."""

    member: str


class SignedPolicy(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /policy``: a policy that the authority has signed, in hexadecimal digits."""

    policy: str


def _number(text: str) -> float:
    """The float in *text*; for some of them msgspec alone would take 7 us."""
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _why(error: Exception) -> str:
    """What is wrong with a body, for people."""
    text = str(error)
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return f"this one is no JSON: {text.removeprefix('JSON is malformed: ')}"
    if (missing := _MISSING.fullmatch(text)) is not None:
        return f'"{missing[1]}" is missing'
    if (unknown := _UNKNOWN.fullmatch(text)) is not None:
        return f'"{unknown[1]}" is none of its fields'
    return f"in this one: {text}"


class Reader:
    """Reads bodies of one type."""

    def __init__(self, type_: type[BodyT], example: str) -> None:
        """:param example: of a body, for errors."""
        self._decode = msgspec.json.Decoder(type_, float_hook=_number).decode
        self._example = example

    def read(self, body: bytes) -> Any:
        """The values of *body*; an empty one counts as ``{}``.

        :raises Refused: it is no such body.
        """
        try:
            told = self._decode(body or b"{}")  # as curl -X POST sends none
            if isinstance(told, Packets):
                told.packets = from_json(told.packets)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = f"the body must look like {self._example}; {_why(error)}"
            raise Refused(http.BAD_REQUEST, text) from None
        if isinstance(told, Body) and not 0 <= told.wait_seconds <= _LONGEST:
            raise Refused(http.BAD_REQUEST, f"wait_seconds is 0 to {_LONGEST:g}")
        return told


def arguments_of(request: WebRequest, known: tuple[str, ...]) -> dict[str, str]:
    """What the query string of *request* says.

    :raises Refused: it says other things than those that are *known*, or one of them twice.
    """
    told: dict[str, str] = {}
    for key, values in (request.args or {}).items():
        name = key.decode("utf-8", "replace")
        if name not in known:
            raise Refused(http.BAD_REQUEST, f"{name!r} is none of {', '.join(known)}")
        if len(values) > 1:
            raise Refused(http.BAD_REQUEST, f"{name} is given {len(values)} times")
        try:
            told[name] = values[0].decode()
        except UnicodeDecodeError:
            raise Refused(http.BAD_REQUEST, f"{name} is no text in UTF-8") from None
    return told


def count_of(text: str, most: int) -> int:
    """The number of messages in an argument.

    :raises Refused: it is none, or is above *most*.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 0 < int(text) <= most:
        return int(text)
    raise Refused(http.BAD_REQUEST, f"count is 1 to {most}, not {text!r}")


def seconds_of(text: str) -> float:
    """The seconds in an argument; ``all`` is without end.

    :raises Refused: it is neither.
    """
    try:
        seconds = math.inf if text == "all" else _number(text)
    except ValueError:
        seconds = math.nan
    if seconds >= 0:
        return seconds
    raise Refused(http.BAD_REQUEST, f'since is "all" or a number of seconds, not {text!r}')

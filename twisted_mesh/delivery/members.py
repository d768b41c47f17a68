"""Who is a member: what a node says of itself, and what it shows of the others.

Contract: what others could not read is refused before it is said, as a
:class:`~twisted_mesh.errors.LocalError`.  The table holds the others of the roster as values: it is made
anew where the core says that something has changed, so that looking costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_mesh.core.events import MemberChanged, MemberGone, NewRun
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import id_of
from twisted_mesh.message import Member
from twisted_mesh.wire.membership import MAX_LABEL, MAX_TAG_KEY, MAX_TAG_VALUE, MAX_TAGS, Role

GONE: Final = "gone"  #: the state of a member that the roster has forgotten
#: Bytes of label and tags: what they have at most in ASCII, so that a record always has room for them.
MOST_SAID: Final = MAX_LABEL + MAX_TAGS * (MAX_TAG_KEY + MAX_TAG_VALUE)

_ROLES: Final = {"member": Role.MEMBER, "guest": Role.GUEST}


def check_role(role: object) -> Role:
    """The role with that name.

    :raises LocalError: there is none.
    """
    if not isinstance(role, str) or role not in _ROLES:
        raise LocalError(f"role is 'member' or 'guest', not {role!r}")
    return _ROLES[role]


def check_label(label: object) -> str | None:
    """*label* if others can be told it.

    :raises LocalError: not None, and no str of so many characters.
    """
    return None if label is None else _text("label", label, MAX_LABEL)


def check_tags(tags: object) -> dict[str, str]:
    """A copy of *tags* if others can be told them.

    :raises LocalError: no dict of str to str, or too many or too long.
    """
    if not isinstance(tags, Mapping):
        raise LocalError(f"tags is a dict of str to str, not {tags!r}")
    if len(tags) > MAX_TAGS:
        raise LocalError(f"tags are at most {MAX_TAGS}, not {len(tags)}")
    return {
        _text("a tag's name", key, MAX_TAG_KEY): _text(f"tag {key!r}", value, MAX_TAG_VALUE)
        for key, value in tags.items()
    }


def check_said(label: str | None, tags: Mapping[str, str]) -> None:
    """Label and tags together.

    :raises LocalError: they do not fit into one record.
    """
    size = sum(len(text.encode()) for text in (label or "", *tags, *tags.values()))
    if size > MOST_SAID:
        raise LocalError(f"label and tags are at most {MOST_SAID} bytes of UTF-8 together, not {size}")


def _text(what: str, text: object, most: int) -> str:
    if not isinstance(text, str):
        raise LocalError(f"{what} is a str, not {text!r}")
    if len(text) > most:
        raise LocalError(f"{what} is at most {most} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LocalError(f"{what} is text, not {text!r}") from None
    return text


class Members:
    """The others of the roster, guests not among them.

    :ivar table: by id, read-only and live.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        publish: Callable[[Member], None],
    ) -> None:
        """
        :param wall_clock: seconds since 1970.
        :param publish: is told of each member that is new, or has changed.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._publish = publish
        self._table: dict[bytes, Member] = {}
        self._origins: dict[bytes, bytes] = {}  # of those in the table, by id
        self.table: Mapping[bytes, Member] = MappingProxyType(self._table)

    def changed(self, changed: MemberChanged) -> None:
        """More is known of a member; one that has become a guest is shown no more."""
        presence = changed.presence
        if presence.role == Role.GUEST:
            self._forget(changed.origin)
            return
        node_id = id_of(changed.origin)
        self._origins[node_id] = changed.origin
        member = self._table[node_id] = Member(
            node_id,
            presence.label,
            dict(presence.tags),
            presence.address,
            "member",
            changed.state,
            self._wall_clock() - (self._clock.seconds() - changed.since),
            presence.epoch,
        )
        self._publish(member)

    def gone(self, gone: MemberGone) -> None:
        """The roster has forgotten a member."""
        self._forget(gone.origin)

    def new_run(self, _: NewRun) -> None:
        """A new run has begun, in which nothing is known of anybody."""
        for origin in list(self._origins.values()):
            self._forget(origin)

    def _forget(self, origin: bytes) -> None:
        node_id = id_of(origin)
        self._origins.pop(node_id, None)
        known = self._table.pop(node_id, None)
        if known is not None:
            self._publish(msgspec.structs.replace(known, state=GONE, since=self._wall_clock()))

    def origin(self, node_id: bytes) -> bytes | None:
        """The public key of the member with that id, if it is known."""
        return self._origins.get(node_id)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"members": len(self._table)}

"""Members by the names that people use: an id, the beginning of an id, or a label.

Contract: a name that fits several members, or none, is an error that says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mesh.message import Member

LEAST: int = 4  # characters of an id that can stand for it (guess)


class UnknownName(ValueError):
    """No member, or more than one, has the name; the text says so."""


def member_named(name: str, members: Iterable[Member]) -> Member:
    """The member with that id or label, or else whose id begins so.

    :raises UnknownName: there is none, or more than one.
    """
    everyone = list(members)
    for fitting in (
        [member for member in everyone if member.id.decode() == name],
        [member for member in everyone if member.label == name],
        [member for member in everyone if len(name) >= LEAST and member.id.decode().startswith(name)],
    ):
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            ids = ", ".join(sorted(member.id.decode() for member in fitting)[:5])
            raise UnknownName(f"{len(fitting)} members are named {name!r}; give one of the ids: {ids}")
    raise UnknownName(
        f"no member is named {name!r}: give a label, an id, or at least {LEAST} characters of one"
    )

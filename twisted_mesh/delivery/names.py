"""Members by the names that people use: an id, the beginning of an id, or a label.

Contract: a name that fits several members, or none, is an error that says so.  Labels prove nothing: a
member can take another's label, or the beginning of its id.  So neither goes before the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mesh.message import Member

LEAST: int = 4  # characters of an id that can stand for it (guess)


class UnknownName(ValueError):
    """No member, or more than one, has the name; the text says so."""


def member_named(name: str, members: Iterable[Member], left: bool = False) -> Member:
    """The member with that id; or else with that label, or an id that begins so, and that has not left.

    :param left: whether members that have left can be meant by their labels, too.
    :raises UnknownName: there is none, or more than one.
    """
    everyone = {member.id.decode(): member for member in members}
    if name in everyone:
        return everyone[name]
    fitting = {
        node_id: member
        for node_id, member in everyone.items()
        if (left or member.state != "left")
        and (member.label == name or (len(name) >= LEAST and node_id.startswith(name)))
    }
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        ids = ", ".join(sorted(fitting)[:5])
        raise UnknownName(f"{len(fitting)} members are named {name!r}; give one of the ids: {ids}")
    raise UnknownName(
        f"no member is named {name!r}: give a label, an id, or at least {LEAST} characters of one"
    )

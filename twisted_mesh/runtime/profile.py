"""Checks the profile that a node sends to others: its role, label and tags, and which messages it wants.

Contract: :func:`checked_profile` raises :class:`~twisted_mesh.errors.LocalError` for values that others
could not read.  Its arguments have the same names as those of :class:`~twisted_mesh.service.MeshService`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted_mesh.core.broadcast.joining import replay_number
from twisted_mesh.core.handshake import Profile
from twisted_mesh.errors import LocalError
from twisted_mesh.wire.membership import (
    MAX_LABEL,
    MAX_RECORD,
    MAX_TAG_KEY,
    MAX_TAG_VALUE,
    MAX_TAGS,
    Role,
)

#: The most bytes of label and tags together.  A record has room for them, for their lengths (86), for the
#: longest address (259) and all other fields (134); the rest is for later versions.
MOST_SAID: Final = MAX_RECORD // 2
_ROLES: Final = {"member": Role.MEMBER, "guest": Role.GUEST}


def checked_profile(
    role: object, label: object, tags: object, overlay: object, replay: float | str | None
) -> Profile:
    """Check the values of a profile, and return the profile.

    :raises LocalError: a value cannot be sent to others; the text says which value, and why.
    """
    if not isinstance(role, str) or role not in _ROLES:
        raise LocalError(f"role is 'member' or 'guest', not {role!r}")
    text = None if label is None else _text("label", label, MAX_LABEL)
    copied = _copied(tags)
    size = sum(len(each.encode()) for each in (text or "", *copied, *copied.values()))
    if size > MOST_SAID:
        raise LocalError(f"label and tags are at most {MOST_SAID} bytes of UTF-8 together, not {size}")
    if type(overlay) is not bool:
        raise LocalError(f"overlay is True or False, not {overlay!r}")
    return Profile(_ROLES[role], text, copied, overlay, replay_number(replay))


def _copied(tags: object) -> dict[str, str]:
    if not isinstance(tags, Mapping):
        raise LocalError(f"tags is a dict of str to str, not {tags!r}")
    if len(tags) > MAX_TAGS:
        raise LocalError(f"tags are at most {MAX_TAGS}, not {len(tags)}")
    return {
        _text("a tag's name", key, MAX_TAG_KEY): _text(f"tag {key!r}", value, MAX_TAG_VALUE)
        for key, value in tags.items()
    }


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


def checked_debug_level(level: int) -> int:
    """:raises LocalError: *level* is no level of the log."""
    if type(level) is not int:
        raise LocalError(f"debug_level must be 0 to 5, not {level!r}")
    return level

"""The profile of a node, and the values that it refuses."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.handshake import Profile
from twisted_mesh.errors import LocalError
from twisted_mesh.runtime.profile import MOST_SAID, checked_profile
from twisted_mesh.wire import codec
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import (
    MAX_CREDENTIAL,
    MAX_HOST,
    MAX_INTERVAL,
    MAX_RECORD,
    Presence,
    PresenceFlags,
    Role,
)

LONGEST = {f"{number:08}": "v" * 20 for number in range(16)}


def profile(role: Any = "member", label: Any = None, tags: Any = LONGEST, overlay: Any = True) -> Profile:
    """A profile of these values, checked as the service does."""
    return checked_profile(role, label, tags, overlay, None)


class TestProfile(SynchronousTestCase):
    def refused(self, why: str, **values: Any) -> None:
        self.assertIn(why, str(self.assertRaises(LocalError, profile, **values)))

    def test_roles(self) -> None:
        self.assertEqual((profile("member").role, profile("guest").role), (Role.MEMBER, Role.GUEST))
        for role in ("Guest", "", None, 1, ["member"]):
            self.refused("'member' or 'guest'", role=role)

    def test_labels(self) -> None:
        labels = [None, "", "ä" * 64]
        self.assertEqual([profile(label=label, tags={}).label for label in labels], labels)
        for label, why in (("a" * 65, "64 characters"), (b"a", "is a str"), ("\udcff", "is text")):
            self.refused(why, label=label)

    def test_tags(self) -> None:
        self.assertEqual(profile().tags, LONGEST)
        self.assertIsNot(profile().tags, LONGEST)
        for tags, why in (
            ({str(number): "" for number in range(17)}, "at most 16"),
            ({"k" * 33: ""}, "a tag's name is at most 32 characters"),
            ({"k": "v" * 129}, "tag 'k' is at most 128 characters"),
            ({1: "a"}, "a tag's name is a str"),
            ({"a": 1}, "tag 'a' is a str"),
            ({"a": "\ud800"}, "tag 'a' is text"),
            ([("a", "b")], "a dict of str to str"),
        ):
            self.refused(why, tags=tags)

    def test_all_of_it_fits_into_one_record(self) -> None:
        said = profile(label="l" * 64)
        self.assertEqual((said.label, MOST_SAID), ("l" * 64, 512))
        largest = Presence(
            bytes(32),
            *(MAX_NUMBER, MAX_NUMBER, MAX_NUMBER),
            ("h" * MAX_HOST, 65535),
            Role.GUEST,
            said.label,
            said.tags,
            *(MAX_NUMBER, MAX_INTERVAL, PresenceFlags(7)),
            bytes(MAX_CREDENTIAL),
            MAX_NUMBER,
            bytes(32),
        )
        self.assertLessEqual(len(codec.pack(largest)), MAX_RECORD + MAX_CREDENTIAL)
        self.refused(f"at most {MOST_SAID} bytes", label="l" * 63 + "é")

    def test_whether_it_looks_for_neighbours_is_true_or_false(self) -> None:
        self.refused("True or False", overlay=1)

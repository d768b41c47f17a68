"""The case that the tests of an overlay and of its rewiring share."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import contact_of, link_of
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Send
from twisted_mesh.core.link import Link
from twisted_mesh.wire.membership import Contact, Purpose


class OverlayCase(SynchronousTestCase):
    """Keeps the frames and dials of node 0, which is linked with node n over link n."""

    def setUp(self) -> None:
        self.effects = Effects((contact_of(0).id, 1))
        self.made = self.effects.begin()
        self.sent_frames: list[tuple[int, Any]] = []
        self.links: dict[int, Link] = {}
        self.dialled: list[tuple[int, Purpose]] = []
        self.may_dial = True
        self.now = 1000.0

    def dial(self, contact: Contact, purpose: Purpose, now: float) -> bool:
        self.assertEqual(now, self.now)
        if self.may_dial:
            self.dialled.append((int(contact.id), purpose))
        return self.may_dial

    @property
    def sent(self) -> list[tuple[int, Any]]:
        """The frames that were sent since this list was last cleared, each with the number of its link."""
        for effect in self.made:
            assert isinstance(effect, Send)
            self.sent_frames += [(number, effect.frame) for number in effect.links]
        self.made.clear()
        return self.sent_frames

    def over(self, number: int) -> Link:
        """The link of that number."""
        return self.links.setdefault(number, link_of(number, contact_of(number)))

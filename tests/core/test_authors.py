"""Which authors are known, and which site brought the new ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import EARLY, UNMET, Authors

HOST = "192.0.2.1"


class TestAuthors(SynchronousTestCase):
    """An author is known after ten minutes, and new until then."""

    def make(self, limit: int = 100) -> Authors:
        """Authors of which none was met."""
        return Authors(MeshConfig(authors_limit=limit))

    def test_an_author_is_known_ten_minutes_after_it_was_met(self) -> None:
        authors = self.make()
        self.assertEqual(authors.introducer(b"anna", 1.0), UNMET)
        self.assertEqual(authors.met(b"anna", HOST, 1.0), HOST)
        self.assertEqual(authors.met(b"anna", "192.0.2.2", 600.0), HOST)
        self.assertEqual(authors.introducer(b"anna", 600.9), HOST)
        self.assertIsNone(authors.introducer(b"anna", 601.0))
        self.assertIsNone(authors.met(b"anna", HOST, 602.0))
        self.assertEqual(authors.footprint(), {"known_authors": 1, "new_authors": 0})

    def test_an_author_that_needs_no_introducer_is_known_at_once(self) -> None:
        authors = self.make()
        authors.met(b"me", HOST, 0.0)
        self.assertIsNone(authors.met(b"me", None, 1.0))
        self.assertIsNone(authors.met(b"bert", None, 1.0))
        self.assertEqual(authors.footprint(), {"known_authors": 2, "new_authors": 0})

    def test_a_site_is_an_ipv6_network_and_a_link_without_a_host_has_one_as_well(self) -> None:
        authors = self.make()
        one, other = (authors.met(host, f"2001:db8::{host.hex()}", 0.0) for host in (b"a", b"b"))
        self.assertEqual(one, other)
        self.assertNotEqual(authors.met(b"local", "", 0.0), UNMET)

    def test_the_first_of_each_site_are_early_as_long_as_they_are_new(self) -> None:
        authors = self.make()
        self.assertTrue(authors.is_early(b"anna", HOST))
        for number in range(EARLY + 1):
            authors.met(b"author %d" % number, HOST, 0.0)
        early = [authors.is_early(b"author %d" % number, HOST) for number in range(EARLY + 1)]
        self.assertEqual(early, [True] * EARLY + [False])
        self.assertFalse(authors.is_early(b"anna", HOST))
        self.assertTrue(authors.is_early(b"anna", "192.0.2.2"))
        authors.vouched(b"author 0")
        self.assertFalse(authors.is_early(b"author 0", HOST))

    def test_if_there_are_too_many_the_latest_of_the_site_with_most_is_forgotten(self) -> None:
        authors = self.make(limit=10)
        authors.met(b"anna", "192.0.2.2", 1.0)
        authors.met(b"me", None, 1.0)
        for number in range(100):
            authors.met(b"%d" % number, HOST, 2.0)
        authors.met(b"bert", "192.0.2.2", 3.0)
        self.assertEqual(authors.footprint(), {"known_authors": 1, "new_authors": 9})
        self.assertEqual(authors.introducer(b"99", 3.0), UNMET)
        self.assertEqual(authors.introducer(b"6", 3.0), HOST)
        self.assertEqual(authors.introducer(b"bert", 3.0), "192.0.2.2")
        self.assertIsNone(authors.introducer(b"anna", 601.0))

    def test_if_all_are_known_the_longest_idle_is_forgotten(self) -> None:
        authors = self.make(limit=3)
        for name in (b"anna", b"bert", b"cleo", b"anna", b"dora"):
            authors.met(name, None, 0.0)
        self.assertEqual(authors.introducer(b"bert", 0.0), UNMET)
        self.assertEqual(authors.met(b"emma", HOST, 0.0), HOST)
        self.assertEqual([authors.introducer(name, 0.0) for name in (b"anna", b"cleo")], [None, UNMET])

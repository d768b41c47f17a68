"""A process is allowed more descriptors, as far as its host lets it."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop.descriptors import allow_descriptors

if sys.platform != "win32":
    import resource


class TestAllowDescriptors(SynchronousTestCase):
    skip = "this host has no limit" if sys.platform == "win32" else None

    def setUp(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        _, self.hard = before
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, self.hard))

    def limit(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return soft

    def test_a_lower_limit_is_raised(self) -> None:
        self.assertEqual((allow_descriptors(400), self.limit()), (400, 400))

    def test_to_no_more_than_the_host_allows(self) -> None:
        if self.hard != resource.RLIM_INFINITY:
            self.assertEqual((allow_descriptors(self.hard + 1), self.limit()), (self.hard, self.hard))

    def test_a_higher_limit_stays(self) -> None:
        self.assertEqual((allow_descriptors(200), self.limit()), (300, 300))

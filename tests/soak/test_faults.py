"""The faults that can be drawn."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.__main__ import parse
from tests.soak.faults import Faults
from tests.soak.proxy import Proxy


class FaultsTests(SynchronousTestCase):
    def test_without_kills_no_process_ends(self) -> None:
        proxy = Proxy(Clock(), Random(1))
        faults = Faults(Clock(), Random(1), proxy, [], lambda actor: None, lambda wait_for: False)
        before = set(faults.kinds)
        faults.leave_out("kill", "stop")
        self.assertEqual(before - set(faults.kinds), {"kill", "stop"})
        faults.one()

    def test_the_option(self) -> None:
        self.assertTrue(parse(["--no-kills"]).no_kills)
        self.assertFalse(parse([]).no_kills)

"""The table of events."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.events import Drained, Joined
from twisted_mesh.runtime.dispatch import Dispatch


class TestDispatch(SynchronousTestCase):
    def test_one_that_raises_is_logged_and_the_next_is_called(self) -> None:
        dispatch = Dispatch()
        called: list[object] = []
        dispatch.on(Drained, lambda _: 1 // 0)
        dispatch.on(Drained, called.append)
        dispatch.on(Joined, lambda _: called.append("of another class"))
        event = Drained()
        dispatch.publish(event)
        self.assertEqual(called, [event])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

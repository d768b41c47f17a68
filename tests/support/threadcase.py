"""The base of tests of nodes that belong to code in other threads than the reactor's."""

from __future__ import annotations

import gc
import io
import sys

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from twisted_mesh.threads import reactor_thread, standard_error


class ThreadCase(TestCase):
    """The nodes use the reactor of the tests, which runs already; what they log is in ``told``."""

    timeout = 60

    def setUp(self) -> None:
        gc.freeze()  # as in MeshCase
        self.addCleanup(gc.unfreeze)
        # Trial's workers shut the reactor down after each test, which ends calls into it.
        self.patch(reactor_thread, "_of_this_process", [])
        self.told = io.StringIO()
        self.patch(sys, "stderr", self.told)
        self.patch(standard_error._observer, "verbose", False)
        self.addCleanup(globalLogPublisher.removeObserver, standard_error._observer)

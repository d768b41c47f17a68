"""The tests of twisted_mesh, laid out as the package is: ``python -m twisted.trial -j 3 tests``.

Three at a time: both cores have work while some test waits for what a process does
(:mod:`tests.support.order`).

A deprecated call that the package or a test makes is a failure (:mod:`tests.support.deprecated`). Files
are in memory if possible (:mod:`tests.support.temporary`).
"""

import gc
import sys

from tests.support.deprecated import make_failures

make_failures()
if "twisted.trial" in sys.modules:  # this is no process that a test has started
    from tests.support.order import mix
    from tests.support.temporary import keep_in_memory

    mix()
    keep_in_memory()
    gc.set_threshold(10_000, 20, 20)  # Python's 700, 10, 10 take 4 % more processor (measured)

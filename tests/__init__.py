"""The tests of twisted_mesh, laid out as the package is: ``python -m twisted.trial -j 3 tests``.

Three at a time: both cores have work while some test waits for what a process does
(:mod:`tests.support.order`).

A deprecated call that the package or a test makes is a failure (:mod:`tests.support.deprecated`). Files
are in memory if possible (:mod:`tests.support.temporary`).
"""

from tests.support.deprecated import make_failures
from tests.support.order import mix
from tests.support.temporary import keep_in_memory

make_failures()
mix()
keep_in_memory()

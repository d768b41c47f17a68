"""A plugin for coverage: nothing measured is lost when ``twistd`` is ended by a signal.

After a clean stop ``twistd`` sends itself the signal that stopped it, so that its parent sees it.
That skips ``atexit``, where coverage writes; so write just before.
"""

import os
from typing import Any

from coverage import Coverage


def coverage_init(_registry: Any, _options: Any) -> None:
    """Have each measured process save before it sends a signal to itself; coverage calls this."""
    kill = os.kill

    def save_and_kill(pid: int, signal: int) -> None:
        measuring = Coverage.current()
        if pid == os.getpid() and measuring:
            measuring.save()
        kill(pid, signal)

    os.kill = save_and_kill

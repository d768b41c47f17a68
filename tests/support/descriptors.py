"""Which descriptors a forked process has open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable


def open_in_fork(descriptors: Iterable[int]) -> int:
    """How many of *descriptors* a forked child has; one of another file, opened in the child, is none."""
    files = [(descriptor, os.fstat(descriptor).st_ino) for descriptor in descriptors]
    child = os.fork()
    if child == 0:  # nothing but system calls: the reactor is the parent's
        open_ones = 0
        for descriptor, inode in files:
            with contextlib.suppress(OSError):
                open_ones += os.fstat(descriptor).st_ino == inode
        os._exit(open_ones)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)

"""Puts the files of tests into memory if possible: no test is about the speed of a disk."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

_MEMORY: Final = "/dev/shm"


@cache
def folder() -> str:
    """The folder for tests of this process, in memory if possible; it is deleted when the process ends."""
    path = tempfile.mkdtemp(prefix="mesh-tests-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    os.chmod(path, 0o755)
    process = os.getpid()

    def delete() -> None:
        if os.getpid() == process:  # a fork ends earlier
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(delete)
    return path


def keep_in_memory() -> None:
    """Let the paths that ``mktemp()`` of each test returns be in :func:`folder`."""

    def mktemp(test: SynchronousTestCase) -> str:
        return os.path.join(tempfile.mkdtemp(prefix=f"{test._testMethodName[:32]}-", dir=folder()), "temp")

    SynchronousTestCase.mktemp = mktemp  # type: ignore[method-assign]

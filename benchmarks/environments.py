"""Where each system runs: a virtual environment of its own, made on first use and kept in a cache folder.

Contract: :func:`python_of` and :func:`server_command` return what can be started, or raise
:class:`Unavailable` with one sentence for the table.  An environment is named after what is pinned in it:
another pin is another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.catalogue import System, Wiring

_INSTALL_SECONDS: Final = 300  # guess
_SERVER_FOLDERS: Final = ("/usr/sbin",)  # where Debian puts it, and only root's PATH looks
_MADE: Final = "made"  # a file that stands in a complete environment


class Unavailable(Exception):
    """A system cannot be measured here; the text says why."""


def default_folder() -> Path:
    """Where environments are kept unless another folder is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twisted_mesh-benchmarks"


def python_of(system: System, folder: Path) -> Path:
    """The interpreter of *system*, in an environment below *folder*.

    :raises Unavailable: its packages cannot be installed.
    """
    if not system.packages:
        return Path(sys.executable)
    pins = "\n".join((sys.version, *system.packages))
    home = folder / f"{system.program}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"
    python = home / "bin" / "python"
    if not (home / _MADE).exists():
        _run("venv", [sys.executable, "-m", "venv", "--clear", str(home)])
        _run("pip", [str(python), "-m", "pip", "install", "--quiet", *system.packages])
        (home / _MADE).touch()
    return python


def server_command(system: System) -> str | None:
    """The path of the server that *system* needs, None if it needs none.

    :raises Unavailable: it is not installed.
    """
    if system.wiring is not Wiring.SERVER:
        return None
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SERVER_FOLDERS))
    found = shutil.which("nats-server", path=path)
    if found is None:
        raise Unavailable("no nats-server on PATH: apt-get install nats-server")
    return found


def _run(what: str, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} was not done within {_INSTALL_SECONDS} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word of it").splitlines()[-1]
        raise Unavailable(f"{what} failed: {last}")

"""Runs scripts in forks: the start of Python and the imports take most of the time of a short script.

``python -m tests.support.forker`` imports the package and starts nothing. It runs each script in a fork of
itself, as ``python -c`` would. Its standard input is a socket; each line that comes is a question as JSON,
and answered by one before the next comes. A question to :func:`run` comes with the descriptors of the new
process from 0 on, and is answered with its id; a question that is such an id with the status with which
that process has ended, null while it runs.
"""

from __future__ import annotations

import gc
import io
import json
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final, TextIO

#: These and the modules that they import: a fork starts a node in half the time, since most scripts
#: need them (measured).
IMPORTED: Final = (
    "twisted_mesh.tap",
    "twisted_mesh.mesh",
    "twisted_mesh.admin.control",
    "twisted_mesh.cli.verbs",
    "twisted.scripts.twistd",
    "twisted.internet.epollreactor",
    "cryptography.hazmat.backends",
)
_MOST_BYTES: Final = 65536  # bytes that are read at once (guess)
_MOST_DESCRIPTORS: Final = 8  # descriptors of one process at most (guess); three are used


def run(
    text: str,
    arguments: list[str],
    directory: str,
    environment: dict[str, str],
    descriptors: Sequence[int],
) -> None:
    """Run the script *text* in this process, and end with it."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(len(descriptors), max(descriptors) + 1)
    sys.stdout, sys.stderr = _anew(sys.stdout, 1), _anew(sys.stderr, 2)
    sys.argv = ["-c", *arguments]
    sys.path[0] = ""
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(text, main.__dict__)


def _anew(stream: TextIO, descriptor: int) -> TextIO:
    """*stream* for what *descriptor* is now: the old one may remember that it was a file, with a place."""
    raw = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115  # it lives as the process does
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True)  # type: ignore[arg-type]


def status_of(process: int) -> int | None:
    """The exit status of *process*, negative for a signal; it is not asked for again."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def asked(asking: socket.socket) -> tuple[Any, list[int]]:
    """The next question, None if there are no more, and the descriptors that came with it."""
    line = b""
    descriptors: list[int] = []
    while not line.endswith(b"\n"):
        data, more, _, _ = socket.recv_fds(asking, _MOST_BYTES, _MOST_DESCRIPTORS)
        if not data:
            return None, []
        line += data
        descriptors += more
    return json.loads(line), descriptors


def main() -> None:
    """Answer until there are no more questions."""
    for name in IMPORTED:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules  # each script has one of its own
    gc.freeze()  # else the first garbage collection of a fork copies all imported modules
    with socket.socket(fileno=os.dup(0)) as asking:
        answer_all(asking)


def answer_all(asking: socket.socket) -> None:
    """Answer the questions that come over *asking*."""
    while True:
        question, descriptors = asked(asking)
        if question is None:
            return
        if isinstance(question, int):
            answer = status_of(question)
        else:
            answer = os.fork()
            if not answer:
                asking.close()
                run(**question, descriptors=descriptors)
                return  # end as a script at its end
            for descriptor in descriptors:
                os.close(descriptor)
        asking.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()

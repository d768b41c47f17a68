"""
Runs scripts without the start of Python and the imports, which is most of what a short one takes.

``python -m tests.support.forker`` imports the package and starts nothing. It runs each script in a fork of
itself, as ``python -c`` would. Its standard input is a socket of packets, and each packet a question as
JSON, which is answered in the same way: a question to :func:`run` comes with the descriptors of the new
process from 0 on, and is answered with its id; a question that is such an id with the status with which
that process has ended, null while it runs.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final

#: Bytes of the longest question: a script and its arguments.
LONGEST: Final = 100_000
#: The most descriptors that come with one.
MOST: Final = 8


def run(
    text: str,
    arguments: list[str],
    directory: str,
    environment: dict[str, str],
    descriptors: Sequence[int],
) -> None:
    """Be the script *text* from now on."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(len(descriptors), max(descriptors) + 1)
    sys.argv = ["-c", *arguments]
    sys.path[0] = ""
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(text, main.__dict__)


def status_of(process: int) -> int | None:
    """With what *process* has ended, negative for a signal; it is asked for no more after that."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    """Answer until there are no more questions."""
    for name in ("twisted_mesh.tap", "twisted.scripts.twistd"):
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules  # each script has one of its own
    gc.freeze()  # else a fork's first collection copies all that is imported
    asking = socket.socket(fileno=os.dup(0))
    while True:
        packet, descriptors, _, _ = socket.recv_fds(asking, LONGEST, MOST)
        if not packet:
            return
        question: Any = json.loads(packet)
        if isinstance(question, int):
            answer = status_of(question)
        else:
            answer = os.fork()
            if not answer:
                asking.close()
                run(**question, descriptors=descriptors)
                return  # and end as a script does that is at its end
            for descriptor in descriptors:
                os.close(descriptor)
        asking.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main()

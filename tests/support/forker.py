"""
Runs scripts without the start of Python, which is most of what a short one takes.

``python -m tests.support.forker`` imports the package and starts nothing. It runs each script in a fork of
itself, as ``python -c`` would, with its output in files. A line of its input is a question as JSON, the
next line of its output the answer: to what :func:`run` takes, the id of the new process; to such an id,
the status with which that process has ended, null while it runs.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def run(text: str, arguments: list[str], directory: str, output: str) -> None:
    """
    Be the script *text* from now on.

    :param output: path of what it prints, less ``.out`` and ``.err``.
    """
    os.chdir(directory)
    for descriptor, path in enumerate((os.devnull, f"{output}.out", f"{output}.err")):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
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
    for line in sys.stdin:
        question: Any = json.loads(line)
        if isinstance(question, int):
            answer = status_of(question)
        else:
            answer = os.fork()
            if not answer:
                run(**question)
                return  # and end as a script does that is at its end
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

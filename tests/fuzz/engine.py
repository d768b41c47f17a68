"""``python -m tests.fuzz.engine COMMAND TARGET [FLAG or FOLDER ...]``: libFuzzer on one target.

Contract: atheris must be installed.  The flags and folders are libFuzzer's, and so is the exit status.
COMMAND is an executable file that calls this module with the same COMMAND and TARGET, since libFuzzer
starts itself again to merge corpora.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["twisted_mesh.wire", "twisted_mesh.core"]):
    from tests.fuzz.mutations import mutator
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    command, name, *flags = sys.argv[1:]
    target = TARGETS[name]
    # atheris has another Mutate once it runs.
    mutate = mutator(name, lambda data, longest: atheris.Mutate(data, longest))
    own = {} if mutate is None else {"custom_mutator": mutate}
    atheris.Setup([command, f"-max_len={target.longest}", *flags], target.run, **own)
    atheris.Fuzz()

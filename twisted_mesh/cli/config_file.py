"""Options of ``twistd mesh`` from a file of TOML.

Contract: each key is the name of an option.  :func:`arguments_of` gives the words that a command line would
have for the file, so that all options are checked in one place.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from twisted_mesh.errors import LocalError


def arguments_of(
    path: str, options: Collection[str], flags: Collection[str], repeated: Collection[str]
) -> list[str]:
    """The options in the file *path* as words of a command line.

    :param options: the names of options with one value; :param flags: of those without a value.
    :param repeated: of those that may be given more than once.
    :raises LocalError: the file cannot be used; the text says why.
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise LocalError(f"--config {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of the TOML, or of its UTF-8
        raise LocalError(f"--config {path} is no TOML: {error}") from None
    words: list[str] = []
    for name, value in table.items():
        if name not in {*options, *flags, *repeated}:
            names = ", ".join(sorted({*options, *flags, *repeated}))
            raise LocalError(f"--config {path}: there is no option {name!r}; the options are {names}")
        where = f"--config {path}: {name}"
        if name in options and isinstance(value, (list, dict)):
            raise LocalError(f"{where} has one value, not {value!r}")
        words += _words(where, name, value, is_flag=name in flags)
    return words


def _words(where: str, name: str, value: Any, *, is_flag: bool) -> Iterator[str]:
    if is_flag:
        if not isinstance(value, bool):
            raise LocalError(f"{where} is true or false, not {value!r}")
        if value:
            yield f"--{name}"
        return
    if isinstance(value, dict):
        value = [f"{key}={each}" for key, each in value.items()]
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise LocalError(f"{where} is text or a number, or a list of them, not {each!r}")
        yield f"--{name}={each}"

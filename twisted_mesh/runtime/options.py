"""The error for a keyword that a constructor does not have: it names those that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from inspect import signature
from typing import ParamSpec

P = ParamSpec("P")


def check_options(given: Iterable[str], known: Collection[str], door: str, beside: str = "") -> None:
    """Check that all keywords *given* are among those *known*.

    :param door: the class that is made; *beside*: its arguments that are none of *known*, for the text.
    :raises TypeError: one is not; the text names it, and those that there are.
    """
    if unknown := [name for name in given if name not in known]:
        others = ", ".join(known)
        raise TypeError(f"{door} has no {unknown[0]}=: {beside}there are {others}")


def names_options(door: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Let the constructor of *door* check its keywords as :func:`check_options` does."""

    def decorate(construct: Callable[P, None]) -> Callable[P, None]:
        known = tuple(signature(construct).parameters)[1:]  # without self

        @wraps(construct)
        def checked(*args: P.args, **options: P.kwargs) -> None:
            check_options(options, known, door)
            construct(*args, **options)

        return checked

    return decorate

"""Completion of ``mesh`` in shells: verbs, options, and members by their names.

Contract: the scripts ask ``mesh complete WORD…`` for what may stand in place of the last word.  If nothing
is known, the shell offers files.  Members are asked of the node; if no node answers, no member is offered.
A label is text of its member, which the shell would take for a command or a pattern: one with any other
character than letters, digits, ``_``, ``.`` and ``-`` is not offered, but the beginning of the member's id.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from twisted_mesh.cli import places
from twisted_mesh.cli.client import Failed, the_node
from twisted_mesh.escaping import ID_SHOWN

COMPLETE: Final = "complete"
_TOLD: Final = "Print a script that completes the verbs and options of mesh, and the members."
_PLAIN: Final = re.compile(r"[\w.][\w.-]*", re.ASCII)
_MEMBER: Final = "MEMBER"
SCRIPTS: Final = {
    "bash": """\
_mesh() {
    local IFS=$'\\n'
    COMPREPLY=($(mesh complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _mesh mesh
""",
    "zsh": """\
#compdef mesh
_mesh() {
    local -a found
    found=("${(@f)$(mesh complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _mesh mesh
""",
    "fish": """\
function __mesh_finds
    set -g __mesh_found (mesh complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    test (count $__mesh_found) -gt 0
end
complete -c mesh -n __mesh_finds -f -a '$__mesh_found'
""",
}


def add_verb(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb ``completion`` to the verbs of ``mesh``."""
    parser = subparsers.add_parser("completion", help="print a script for a shell", description=_TOLD)
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    parser.set_defaults(action=lambda options: print(SCRIPTS[options.shell], end=""))


def complete(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What may stand in place of the last of *words*, which follow the name of the command."""
    *before, last = words or [""]
    given: dict[str, str] = {}  # the options so far, with their values
    places_filled, expects = 0, None  # positional words so far; the option of which the value comes next
    for word in before:
        name, equals, value = word.partition("=")
        option = parser._option_string_actions.get(name)
        if expects is not None:
            given[expects.dest], expects = word, None
        elif option is not None and equals:
            given[option.dest] = value
        elif option is not None:
            expects = None if option.nargs == 0 else option
        elif not word.startswith("-"):
            if (inner := _subparsers(parser)) is None:
                places_filled += 1
            elif word not in inner:
                return []
            else:
                parser = inner[word]
    found = _values(expects, given) if expects is not None else _next(parser, places_filled, given)
    return _beginning(last, [*found, *(parser._option_string_actions if last.startswith("-") else ())])


def _next(parser: argparse.ArgumentParser, filled: int, given: Mapping[str, str]) -> Iterator[str]:
    """The words that may come behind *filled* positional ones."""
    if (inner := _subparsers(parser)) is not None:
        yield from inner
        return
    positional = parser._get_positional_actions()
    if filled < len(positional):
        yield from _values(positional[filled], given)


def _values(action: argparse.Action, given: Mapping[str, str]) -> Iterator[str]:
    """The values that an option or a positional word may have, as far as they are known."""
    if action.choices is not None:
        yield from map(str, action.choices)
    elif action.dest == "node":
        yield from map(str, places.found(os.environ))
    elif action.metavar == _MEMBER:
        yield from _members(given)


def _members(given: Mapping[str, str]) -> Iterator[str]:
    try:
        node = the_node(given.get("node"), os.environ, given.get("token"))
        members: list[dict[str, Any]] = node.get("/members")
    except Failed:
        return
    for member in members:
        label = member["label"]
        yield label if label and _PLAIN.fullmatch(label) else member["id"][:ID_SHOWN]


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    """The parsers of the verbs, or of the actions of a verb, if there are any."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices: dict[str, argparse.ArgumentParser] = action.choices
            return choices
    return None


def _beginning(last: str, words: Sequence[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(last)})

"""The verbs of ``mesh`` that make files by which a mesh knows who belongs to it.

Contract: they ask no node, and start without Twisted.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from twisted_mesh.errors import TrustError

VERB: Final = "secret"
_TOLD: Final = "Make the secret that the nodes of a mesh share."


def add_verb(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb ``secret`` to the verbs of ``mesh``."""
    parser = subparsers.add_parser(VERB, help="make a secret for the nodes of a mesh", description=_TOLD)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a secret in a new file", description=_TOLD)
    new.add_argument("path", metavar="FILE", help="is made, mode 0600; copy it to the other nodes")


def new_secret(options: argparse.Namespace) -> int:
    """Make a secret in a new file, and print its id; the result is the exit status."""
    from twisted_mesh.trust.shared_secret import create  # 30 ms of imports that the other verbs do not need

    try:
        made = create(options.path)
    except TrustError as error:
        print(f"mesh: {error}", file=sys.stderr)
        return 1
    print(f"secret {made.hex()} in {options.path}: copy the file to all nodes of the mesh")
    return 0

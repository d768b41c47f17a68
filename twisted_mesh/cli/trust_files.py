"""The verbs of ``mesh`` that make files by which a mesh knows who belongs to it.

Contract: they start without Twisted.  Only ``authority remove`` asks a node.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

from twisted_mesh.cli.client import Failed, the_node
from twisted_mesh.errors import LocalError
from twisted_mesh.escaping import for_terminal

_SECRET: Final = "Make the secret that the nodes of a mesh share."
_AUTHORITY: Final = "Make the authority of a mesh, on a machine that runs no node, and have it grant."
_NEW: Final = "Make the authority of a mesh: its private key in FILE, its public key in FILE.pub."
_GRANT: Final = "Let a node belong to the mesh: make its grant in a new file."
_REMOVE: Final = "Remove a member from the mesh, or end old grants, by way of the node here."
_QUOTA: Final = "Say how much a member may publish while others wait, by way of the node here."
_SHOW: Final = "Show what an authority has granted."
_NODE: Final = "which node, if more than one runs here: its label, its id, or its control socket"
_SECONDS: Final = 10.0  # for which the node may take to answer (guess)
_ID: Final = "Print the id of a node, and make its key if there is none."

# The modules of trust are imported where they are used: 30 ms that the other verbs do not need.


def add_verbs(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add these verbs to the verbs of ``mesh``."""
    actions = _group(subparsers, "secret", "make a secret for the nodes of a mesh", _SECRET)
    new = _action(actions, "new", _SECRET, _new_secret)
    new.add_argument("path", metavar="FILE", help="is made, mode 0600; copy it to the other nodes")

    actions = _group(subparsers, "authority", "say which nodes belong to a mesh", _AUTHORITY)
    new = _action(actions, "new", _NEW, _new_authority)
    new.add_argument("path", metavar="FILE", help="is made, mode 0600; keep it offline")
    new.add_argument("--subnet", default="mesh", help="the name of the mesh's subnet (mesh)")
    grant = _action(actions, "grant", _GRANT, _grant)
    grant.add_argument("path", metavar="FILE", help="the private key of the authority")
    grant.add_argument("id", metavar="ID", help="of the node, as mesh id prints it")
    grant.add_argument("grant", metavar="GRANT", help="is made; give it to the node")
    grant.add_argument(
        "--roles",
        default="link,author",
        help="some of link, author, guest and listen-only, with commas between them (link,author)",
    )
    grant.add_argument(
        "--generation", type=int, default=0, help="of the grant (the highest so far); see remove --below"
    )
    remove = _action(actions, "remove", _REMOVE, _remove)
    remove.add_argument("path", metavar="FILE", help="the private key of the authority")
    chosen = remove.add_mutually_exclusive_group(required=True)
    chosen.add_argument(
        "member", metavar="MEMBER", nargs="?", help="its label, or its id or the beginning of it"
    )
    chosen.add_argument(
        "--below", type=int, metavar="GENERATION", help="end the grants of lower generations"
    )
    remove.add_argument("--node", metavar="PATH", default=argparse.SUPPRESS, help=_NODE)
    _add_quota(_action(actions, "quota", _QUOTA, _quota))
    show = _action(actions, "show", _SHOW, _show)
    show.add_argument("path", metavar="FILE", help="the private key of the authority")

    parser = _action(subparsers, "id", _ID, _id)
    parser.add_argument("path", metavar="FILE", help="the node's identity")


def _add_quota(quota: argparse.ArgumentParser) -> None:
    """Add the options of ``authority quota``."""
    quota.add_argument("path", metavar="FILE", help="the private key of the authority")
    chosen = quota.add_mutually_exclusive_group(required=True)
    chosen.add_argument("member", metavar="MEMBER", nargs="?", help="as for remove")
    chosen.add_argument("--all", action="store_true", help="all members that have no quota of their own")
    for name, noun in (("--batches", "batches"), ("--bytes", "bytes of batches")):
        told = f"{noun} in a second on average; 0 for as many as each node allows an author anyway (0)"
        quota.add_argument(name, type=int, metavar="N", help=told)
    quota.add_argument("--none", action="store_true", help="end the quota that there was")
    quota.add_argument("--node", metavar="PATH", default=argparse.SUPPRESS, help=_NODE)


Action = Callable[[argparse.Namespace], None]


def run(options: argparse.Namespace) -> int:
    """Do what the verb in *options* says."""
    action: Action = options.action
    try:
        action(options)
    except (LocalError, Failed) as error:
        told = error.shown() if isinstance(error, Failed) else for_terminal(str(error))
        print(f"mesh: {told}", file=sys.stderr)
        return 2 if isinstance(error, Failed) and error.status is None else 1  # as in cli.main
    return 0


def _group(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help: str, told: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    parser = subparsers.add_parser(name, help=help, description=told)
    return parser.add_subparsers(metavar="ACTION", required=True)


def _action(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str, action: Action
) -> argparse.ArgumentParser:
    help = told[0].lower() + told[1:].rstrip(".")
    parser = subparsers.add_parser(name, help=help, description=told)
    parser.set_defaults(action=action)
    return parser


def _new_secret(options: argparse.Namespace) -> None:
    """Make a secret in a new file, and print its id."""
    from twisted_mesh.trust.shared_secret import create

    made = create(options.path)
    print(f"secret {made.hex()} in {options.path}: copy the file to all nodes of the mesh")


def _new_authority(options: argparse.Namespace) -> None:
    from twisted_mesh.trust.grants import AuthorityFiles

    AuthorityFiles.create(options.path, options.subnet)
    print(f"authority in {options.path}: keep it offline, and copy {options.path}.pub to all nodes")


def _grant(options: argparse.Namespace) -> None:
    from twisted_mesh.trust.allow_list import is_id
    from twisted_mesh.trust.authority import roles_of
    from twisted_mesh.trust.grants import AuthorityFiles

    if not is_id(options.id):
        raise LocalError(f"{options.id!r} is no whole id: give all that mesh id FILE prints")
    roles = roles_of(options.roles)
    issued = AuthorityFiles.load(options.path).grant(options.id, roles, options.grant, options.generation)
    print(f"grant {issued.serial} in {options.grant}: copy the file to {options.id}")


def _remove(options: argparse.Namespace) -> None:
    from twisted_mesh.trust.grants import AuthorityFiles
    from twisted_mesh.wire.authority import Cut

    files, node = AuthorityFiles.load(options.path), the_node(options.node, os.environ, options.token)
    if options.member is None:
        files.know(bytes.fromhex(node.post("/policy", {"policy": ""}, _SECONDS)["policy"]))
        packed = files.end_below(options.below)
        told = f"grants below generation {options.below} are over"
    else:
        found = node.post("/cut", {"member": options.member}, _SECONDS)
        files.know(bytes.fromhex(found["policy"]))
        cuts = [Cut(epoch, number, bytes.fromhex(hash)) for epoch, number, hash in found["cuts"]]
        packed, told = files.remove(bytes.fromhex(found["key"]), cuts), f"{found['id']} is removed"
    node.post("/policy", {"policy": packed.hex()}, _SECONDS)
    print(f"policy {files.policy.number}: {told}; the node hands it on to all others")


def _quota(options: argparse.Namespace) -> None:
    from twisted_mesh.trust.grants import AuthorityFiles

    rates = options.batches, options.bytes
    if (rates == (None, None)) is not options.none:
        raise LocalError("give --batches, --bytes or both, or else --none")
    files, node = AuthorityFiles.load(options.path), the_node(options.node, os.environ, options.token)
    if options.member is None:
        key, whose = b"", "all others"
        files.know(bytes.fromhex(node.post("/policy", {"policy": ""}, _SECONDS)["policy"]))
    else:
        found = node.post("/cut", {"member": options.member}, _SECONDS)
        key, whose = bytes.fromhex(found["key"]), found["id"]
        files.know(bytes.fromhex(found["policy"]))
    if options.none:
        packed, told = files.end_quota(key), f"the quota of {whose} is over"
    else:
        batches, size = (rate or 0 for rate in rates)
        packed, told = files.set_quota(key, batches, size), _quota_told(whose, batches, size)
    node.post("/policy", {"policy": packed.hex()}, _SECONDS)
    print(f"policy {files.policy.number}: {told}; the node hands it on to all others")


def _quota_told(whose: str, batches: int, size: int) -> str:
    """A quota, for people."""
    rates = [f"{rate:,} {noun}" for rate, noun in ((batches, "batches"), (size, "bytes")) if rate]
    return (
        f"quota of {whose}: {' and '.join(rates)} a second"
        if rates
        else f"quota of {whose}: as each node allows"
    )


def _show(options: argparse.Namespace) -> None:
    from twisted_mesh.identity import id_of
    from twisted_mesh.trust.grants import AuthorityFiles

    files = AuthorityFiles.load(options.path)
    print(f"authority {files.authority.key.hex()} of subnet {files.state.subnet!r}")
    for issued in files.state.grants:
        roles = ", ".join(issued.roles)
        print(f"grant {issued.serial} of {issued.id}: {roles}, generation {issued.generation}")
    if (policy := files.policy).number:
        print(f"policy {policy.number}: grants from generation {policy.generation} on are good")
        for removed in policy.removed:
            print(f"removed {id_of(removed.key).decode()}")
        for quota in policy.quotas:
            whose = id_of(quota.key).decode() if quota.key else "all others"
            print(_quota_told(whose, quota.batches, quota.size))


def _id(options: argparse.Namespace) -> None:
    from twisted_mesh.identity import Identity

    is_new = not os.path.lexists(options.path)
    id = Identity.load_or_create(os.fspath(options.path)).id.decode()
    if is_new:
        print(f"mesh: there was no key in {for_terminal(options.path)}: it is made", file=sys.stderr)
    print(id)

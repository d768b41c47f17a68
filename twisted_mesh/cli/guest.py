"""A guest of a mesh for one verb of ``mesh``, where no node runs: a node in a process of its own.

Contract: the guest is on no list of members.  It has joined before the verb asks it, and has handed over
what the verb sent before the command ends.  If all peers refuse it twice, the command does not wait longer.
Its standard input is a pipe from this process, so it ends when this process does, however that ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from twisted_mesh.cli.client import Client, Failed

JOINS: Final = 10.0  # seconds in which the guest must have joined (guess)
_ENDS: Final = 30.0  # seconds until a guest is killed that should hand over and end: it takes 25 at most
_ATTEMPTS: Final = 2  # until a peer is given up: it may just be starting
_PACE: Final = 0.05  # seconds from one look whether the guest has joined to the next (guess)
_TOLD: Final = "mesh: "  # begins a line that a node writes for people, between those of its log
#: The options of ``twistd mesh`` that a guest may need, each with its help.
_OPTIONS: Final = {
    "identity": "file of the guest's key; without it the key is made for this once",
    "subnet": "the mesh's subnet",
    "encryption": "SSL or Plaintext",
    "secret": "file of the mesh's secret",
    "authority": "file of the authority's public key",
    "grant": "file of the guest's grant",
    "ca": "file of the certificate of a CA",
    "certificate": "file of the guest's certificate",
    "allow": "file of ids: only these nodes link",
    "deny": "file of ids: these nodes do not link",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a guest to those of a verb."""
    group = parser.add_argument_group("as a guest, without a node here")
    told = "HOST:PORT or ID@HOST:PORT of a node of the mesh; may be repeated"
    group.add_argument("--peer", action="append", metavar="PEER", help=told)
    for name, told in _OPTIONS.items():
        kind = "FILE" if "file" in told else "NAME"
        group.add_argument(f"--{name}", metavar=kind, help=told)


def check(options: argparse.Namespace) -> bool:
    """Whether *options* ask for a guest; a usage error if they cannot be."""
    given = [name for name in _OPTIONS if getattr(options, name, None) is not None]
    if getattr(options, "peer", None):
        if options.node is not None or options.token is not None:
            options.wrong("--peer joins as a guest, and --node names a node that runs here: choose one")
        if getattr(options, "consumer", None) is not None:
            options.wrong("--consumer is of a node that keeps its place: a guest of --peer keeps nothing")
        return True
    if given:
        options.wrong(f"--{given[0]} is of a guest: give --peer, too")
    return False


@contextmanager
def joined(options: argparse.Namespace) -> Iterator[Client]:
    """A guest of the mesh of ``--peer``, which ends with this context.

    :raises Failed: it could not join, or could not hand over what was sent.
    """
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        socket, log = Path(folder) / "guest.sock", Path(folder) / "log"
        words = [f"--{name}={value}" for name in _OPTIONS if (value := getattr(options, name)) is not None]
        words += [f"--peer={peer}" for peer in options.peer]
        if (since := getattr(options, "since", None)) is not None:
            words.append(f"--replay={since}")
        command = [sys.executable, "-m", "twisted_mesh.cli.main", "run", "--role=guest", "--stdio"]
        with log.open("wb") as errors:
            node = subprocess.Popen(
                [*command, f"--control={socket}", "--debug-level=0", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # messages, which the control socket tells, too
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for this process, which lets the guest end in order
            )
        try:
            client = Client(socket)
            try:
                _await_joined(client, node, log)
            except BaseException:
                node.terminate()  # it has nothing to hand over
                raise
            yield client
        finally:
            _end(node)
        if node.returncode:
            raise Failed(_reason(log), node.returncode)


def _await_joined(client: Client, node: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + JOINS
    while True:
        try:
            client.get("/readyz")
            return
        except Failed as error:
            if node.poll() is not None:
                raise Failed(_reason(log)) from None
            if time.monotonic() >= until:
                raise Failed(f"joined no mesh in {JOINS:g} s: {error}") from None
            if error.status is not None and (why := _refusals(client.get("/status")["peers"])):
                raise Failed(f"joined no mesh: {why}") from None
        time.sleep(_PACE)


def _refusals(peers: list[Any]) -> str | None:
    """Why each of *peers* refused the guest, if all did so often enough; else None."""
    if not peers or any(peer["failures"] < _ATTEMPTS for peer in peers):
        return None
    return "; ".join(
        peer["reason"] if peer["address"] in peer["reason"] else f"{peer['address']}: {peer['reason']}"
        for peer in peers
    )


def _end(node: subprocess.Popen[bytes]) -> None:
    """Let the guest hand over what was sent, and end."""
    assert node.stdin is not None
    node.stdin.close()
    try:
        node.wait(_ENDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def _reason(log: Path) -> str:
    """Why the guest has ended: the last line of its log that is for people, or else the last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").split("\n") if line.strip()]
    told = [line.removeprefix(_TOLD) for line in lines if line.startswith(_TOLD)]
    return (told or lines or ["the guest has ended, and did not say why"])[-1]

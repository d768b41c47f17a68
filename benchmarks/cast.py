"""The processes of one measurement: its nodes and, where there is one, its server.

Contract: a :class:`Cast` is a context manager: inside, all nodes run and nothing is linked; at its end
every process that it started is gone.  Each wait has an end: :class:`Failed` says what was not done by
whom.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from benchmarks.catalogue import Cover, System, Wiring

ROOT: Final = Path(__file__).parent.parent
_ANSWER_SECONDS: Final = 30.0  # a node that is busy sending answers late
_LINK_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0
POLL: Final = 0.05  # seconds from one look to the next (guess)
_CHUNK: Final = 2**16


class Failed(Exception):
    """A measurement came to nothing; the text says why."""


class Process:
    """One process and its memory and CPU, as the system tells them.

    :param name: for what is said of it.
    :param command: its program and arguments.
    :param log: the file its standard error goes to.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, **options: Any) -> None:
        self.name, self._log = name, log
        with log.open("wb") as errors:
            self._child = subprocess.Popen(command, stderr=errors, cwd=ROOT, **options)

    def usage(self) -> dict[str, float]:
        """As :func:`benchmarks.systems.program.usage`, from outside.

        :raises Failed: it has ended.
        """
        folder = Path(f"/proc/{self._child.pid}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            memory = {name: int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}
        except (OSError, KeyError):
            raise self.ended() from None
        ticks = int(fields[11]) + int(fields[12])  # of user and system
        return {"cpu": ticks / os.sysconf("SC_CLK_TCK"), "rss": memory["VmRSS"], "peak": memory["VmHWM"]}

    def end(self) -> None:
        """Tell it to end."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        else:
            self._child.terminate()

    def gone(self) -> None:
        """Wait until it has ended, or kill it."""
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def ended(self) -> Failed:
        """What to raise when it has ended by itself: with the last line it wrote to standard error."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return Failed(f"{self.name} has ended: {lines[-1] if lines else 'without a word'}")


class Player(Process):
    """A node: a process that answers (``benchmarks.systems.program``)."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        super().__init__(name, command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._kept = b""

    def tell(self, *command: object) -> None:
        """Send a command; its :meth:`answer` is to be taken."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(command).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self.ended() from None

    def answer(self, seconds: float = _ANSWER_SECONDS) -> Any:
        """The answer to the oldest command that has none yet.

        :raises Failed: an error, the end of the process, or none in *seconds*.
        """
        assert self._child.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._kept:
            ready, _, _ = select.select([self._child.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise Failed(f"{self.name} did not answer within {seconds:.0f} s")
            some = os.read(self._child.stdout.fileno(), _CHUNK)
            if not some:
                raise self.ended()
            self._kept += some
        line, _, self._kept = self._kept.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer["value"]

    def ask(self, *command: object) -> Any:
        """Send a command and take its answer."""
        self.tell(*command)
        return self.answer()

    def usage(self) -> dict[str, float]:
        """As the node itself tells it, with finer times."""
        told: dict[str, float] = self.ask("usage")
        return told


class Cast:
    """So many nodes of a system, and its server.

    :param python: the interpreter of the system's environment.
    :param server: the path of its server, if it has one.
    :param alone: nodes have the links that are made and find none by themselves.
    :ivar players: the nodes.
    :ivar server: the server, or None.
    """

    def __init__(self, system: System, python: Path, server: str | None, count: int, alone: bool) -> None:
        self.system = system
        self.players: list[Player] = []
        self.server: Process | None = None
        self._python, self._server_path, self._count, self._alone = python, server, count, alone
        self._ports: list[int] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="mesh-benchmarks-")
        try:
            self._start(Path(self._folder.name))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self, folder: Path) -> None:
        if self._server_path is not None:
            command = [self._server_path, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder)]
            if self.system.cover is Cover.ENCRYPTED:
                command += ["--tls", *certificate_options(folder)]
            self.server = Process("nats-server", command, folder / "server.log")
            self._server_port = told_port(folder)
        module = f"benchmarks.systems.{self.system.program}"
        command = [str(self._python), "-m", module, *self.system.arguments]
        for number in range(self._count):
            name = f"node {number} of {self.system.name}"
            self.players.append(Player(name, command, folder / f"{number}.log"))
        for player in self.players:
            player.tell("open", self._alone)
        self._ports = [player.answer() for player in self.players]

    def _stop(self) -> None:
        processes = [*self.players, *([self.server] if self.server else [])]
        for process in processes:
            process.end()
        for process in processes:
            process.gone()
        self._folder.cleanup()

    @property
    def port(self) -> int:
        """The port of the first node."""
        return self._ports[0]

    def link(self, one: int, other: int) -> None:
        """Link two nodes, as the system does; or *one* with the server."""
        match self.system.wiring:
            case Wiring.SERVER:
                self.players[one].ask("connect", self._server_port)
            case Wiring.OTHERS:
                self.players[one].ask("connect", self._ports[other])
                self.players[other].ask("connect", self._ports[one])
            case Wiring.EARLIER | Wiring.FIRST:
                self.players[one].ask("connect", self._ports[other])

    def link_all(self) -> None:
        """Link the nodes so that each reaches all others, and wait until they do."""
        count = len(self.players)
        for one in range(count):
            match self.system.wiring:
                case Wiring.SERVER:
                    self.link(one, one)
                case Wiring.FIRST:
                    self.link(one, 0) if one else None
                case Wiring.EARLIER | Wiring.OTHERS:
                    for other in range(one):
                        self.link(one, other)
        everyone = count - 1 if self.system.knows_all else 1
        self.wait("links", lambda: all(player.ask("links") >= everyone for player in self.players))

    def link_line(self) -> None:
        """Link each node with the one before it, and wait until all are."""
        for one in range(1, len(self.players)):
            self.link(one, one - 1)
        ends = {0, len(self.players) - 1}
        wanted = [1 if number in ends else 2 for number in range(len(self.players))]
        self.wait("links", lambda: [player.ask("links") for player in self.players] == wanted)

    def wait(self, what: str, done: Callable[[], bool], seconds: float = _LINK_SECONDS) -> None:
        """Wait until *done*.

        :raises Failed: it was not in *seconds*.
        """
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                raise Failed(f"{self.system.name}: no {what} within {seconds:.0f} s")
            time.sleep(POLL)


def certificate_options(folder: Path) -> list[str]:
    """The options that give nats-server a certificate of its own, for a key as the mesh's links have."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ["--tlscert", str(paths[0]), "--tlskey", str(paths[1])]


def told_port(folder: Path) -> int:
    """The port nats-server chose: it writes a file that says so when it listens.

    :raises Failed: it did not.
    """
    until = time.monotonic() + _LINK_SECONDS
    while time.monotonic() < until:
        for path in folder.glob("*.ports"):
            try:
                return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
            except (ValueError, LookupError):
                pass  # half written
        time.sleep(POLL)
    raise Failed("nats-server did not say where it listens")

"""The options of the command, the environments of the systems, and the answers of a node."""

import json
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import environments
from benchmarks.__main__ import parsed, prepared
from benchmarks.cast import certificate_options
from benchmarks.catalogue import SYSTEMS
from benchmarks.environments import Unavailable, python_of, server_command
from benchmarks.systems.program import Node, Tally


class OptionsTests(SynchronousTestCase):
    def test_rounds_and_part(self) -> None:
        for given, told in {
            (): (5, 1.0),
            ("--quick",): (2, 0.2),
            ("--quick", "--rounds", "4"): (4, 0.2),
        }.items():
            options = parsed(given)
            self.assertEqual((options.rounds, options.part), told)

    def test_systems_and_scenarios_are_chosen_by_name(self) -> None:
        options = parsed(["--only", "raw", "mesh", "--scenario", "hop-64"])
        self.assertEqual((options.only, options.scenario), (["raw", "mesh"], ["hop-64"]))


class EnvironmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.ran: list[list[str]] = []

    def test_what_needs_no_package_runs_where_the_command_does(self) -> None:
        for name in ("raw", "mesh"):
            self.assertEqual(python_of(SYSTEMS[name], self.folder), Path(sys.executable))
        self.assertFalse(self.folder.exists())

    def test_an_environment_is_made_once_with_what_is_pinned(self) -> None:
        def run(what: str, command: list[str]) -> None:
            self.ran.append(command)
            if what == "venv":
                Path(command[-1]).mkdir(parents=True)

        self.patch(environments, "_run", run)
        first = python_of(SYSTEMS["zmq"], self.folder)
        self.assertEqual(self.ran[1][1:], ["-m", "pip", "install", "--quiet", *SYSTEMS["zmq"].packages])
        self.assertEqual(python_of(SYSTEMS["zmq-unlimited"], self.folder), first)
        self.assertNotEqual(python_of(SYSTEMS["py2p"], self.folder), first)
        self.assertEqual(len(self.ran), 4)

    def test_every_package_of_another_is_pinned(self) -> None:
        for system in SYSTEMS.values():
            for package in system.packages:
                self.assertRegex(package, r"^[\w-]+==[\d.]+$")

    def test_a_server_with_tls_gets_a_certificate_and_its_key(self) -> None:
        self.folder.mkdir()
        option, certificate, key_option, key = certificate_options(self.folder)
        self.assertEqual((option, key_option), ("--tlscert", "--tlskey"))
        made = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        private = load_pem_private_key(Path(key).read_bytes(), None)
        self.assertEqual(made.public_key(), private.public_key())

    def test_what_cannot_be_had_is_skipped_with_a_word(self) -> None:
        self.patch(environments, "_SERVER_FOLDERS", ())
        self.patch(environments.os, "environ", {"PATH": ""})
        self.assertIsNone(server_command(SYSTEMS["zmq"]))
        self.assertIn(
            "apt-get install", str(self.assertRaises(Unavailable, server_command, SYSTEMS["nats"]))
        )
        self.patch(sys, "executable", "/bin/false")
        ready, skipped = prepared([SYSTEMS["raw"], SYSTEMS["py2p"]], self.folder)
        self.assertEqual((list(ready), skipped), (["raw"], {"py2p": "venv failed: no word of it"}))


class Deaf(Node):
    """A node without a network."""

    async def open(self, alone: bool) -> int:
        return 4444

    async def connect(self, port: int) -> None:
        raise ConnectionRefusedError(port)

    def links(self) -> int:
        return 0

    async def send(self, count: int, size: int) -> None:
        raise NotImplementedError

    async def say(self, body: bytes) -> None:
        raise NotImplementedError


class NodeTests(SynchronousTestCase):
    def answer(self, *command: object) -> object:
        """The answer of a node."""
        line = json.dumps(command).encode()
        return json.loads(self.successResultOf(Deferred.fromCoroutine(Deaf(None).obey(line))))

    def test_a_node_answers_each_command_and_lives_on_after_an_error(self) -> None:
        self.assertEqual(self.answer("open", True), {"value": 4444})
        self.assertEqual(self.answer("heard")["value"][:2], [0, 0])
        self.assertEqual(self.answer("connect", 1), {"error": "ConnectionRefusedError: 1"})
        self.assertEqual(self.answer("dance"), {"error": "ValueError: no such command: dance"})

    def test_usage_is_of_this_process(self) -> None:
        used = self.answer("usage")["value"]
        self.assertGreater(used["cpu"], 0)
        self.assertGreater(min(used["peak"], used["rss"]), 2**20)  # both figures of the system are rough

    def test_a_tally_marks_the_first_each_hundredth_and_the_last(self) -> None:
        tally = Tally()
        tally.expect(1000, False)
        for _ in range(1000):
            tally.more()
        self.assertEqual([count for count, *_ in tally.marks], [1, *range(10, 1001, 10)])
        tally.expect(1000, False)
        for _ in range(4):
            tally.more(250)
        self.assertEqual([count for count, *_ in tally.marks], [250, 500, 750, 1000])

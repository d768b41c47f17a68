"""The network that a node belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.errors import LocalError
from twisted_mesh.network import PLAINTEXT, SSL, Protocol

PY2P = json.loads(Path(__file__).parent.with_name("py2p_vectors.json").read_text())


class TestProtocol(SynchronousTestCase):
    def test_the_protocol_ids_are_those_of_py2p(self) -> None:
        for known in PY2P["protocol_ids"]:
            protocol = Protocol(known["subnet"], known["encryption"])
            self.assertEqual(protocol.id, known["protocol_id"].encode())

    def test_the_default_is_the_encrypted_mesh(self) -> None:
        self.assertEqual(Protocol(), Protocol("mesh", SSL))
        self.assertTrue(Protocol().encrypted)
        self.assertFalse(Protocol("mesh", PLAINTEXT).encrypted)

    def test_a_protocol_that_can_be_spoken_passes(self) -> None:
        for protocol in (Protocol(), Protocol("", PLAINTEXT), Protocol("größe \N{BELL}")):
            self.assertIs(protocol.checked(), protocol)
            self.assertIsInstance(protocol.id, bytes)

    def test_a_network_whose_nodes_must_prove_something_is_another_one(self) -> None:
        networks = (Protocol(), Protocol("a"))
        for name in (Protocol.id_with, Protocol.key_with):
            self.assertEqual(
                len({name(network, mode) for network in networks for mode in ("", "secret")}), 4
            )
        self.assertEqual(Protocol().id, Protocol().id_with(""))

    def test_another_encryption_is_refused(self) -> None:
        for encryption in ("ssl", "TLS", "", None, b"SSL", ["SSL"]):
            protocol = Protocol("mesh", encryption)  # type: ignore[arg-type]
            error = self.assertRaises(LocalError, protocol.checked)
            self.assertIn("'SSL' or 'Plaintext'", str(error))

    def test_a_subnet_that_is_no_text_is_refused(self) -> None:
        for subnet in (None, b"mesh", 5, "half a character \udc80"):
            error = self.assertRaises(LocalError, Protocol(subnet).checked)  # type: ignore[arg-type]
            self.assertIn("subnet must be", str(error))

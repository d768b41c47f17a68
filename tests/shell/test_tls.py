"""TLS of links: version, exporter, words."""

from __future__ import annotations

from OpenSSL import SSL

from tests.support.meshcase import MeshCase, Raw
from twisted_mesh import tls


class TestTls(MeshCase):
    def test_links_are_tls_1_3(self) -> None:
        a, b = self.chain(2)
        handle = a.routing_table[b.id].transport.getHandle()
        self.assertEqual(handle.get_protocol_version_name(), "TLSv1.3")
        self.assertIn(b"\x17\x03\x03", self.wire_bytes())

    def wire_bytes(self) -> bytes:
        """What a broadcast looks like on the wire."""
        a, b = self.services
        a.send("a secret of " + "x" * 20)
        end = self.network.between(self.host(a), self.host(b))[1]
        end.reads = False
        self.network.pump()
        seen = bytes(end._arrived)
        end.reads = True
        self.network.pump()
        self.assertNotIn(b"secret", seen)
        self.assertEqual(len(self.got(b)), 1)
        return seen

    def test_the_exporter_is_the_sessions(self) -> None:
        a, b = self.chain(2)
        c = self.node()
        self.link((c, a))
        near = tls.exporter(a.routing_table[b.id].transport)
        self.assertEqual(len(near), 32)
        self.assertEqual(near, tls.exporter(b.routing_table[a.id].transport))
        self.assertNotEqual(near, tls.exporter(a.routing_table[c.id].transport))

    def test_plain_text_has_none(self) -> None:
        a, b = self.chain(2, encryption="Plaintext")
        self.assertEqual(tls.exporter(a.routing_table[b.id].transport), b"")

    def test_older_versions_are_refused(self) -> None:
        a = self.node()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        old = self.tls()._creator
        self.patch(old, "_context", context)
        raw = self.dial(Raw(), a)
        self.network.pump()
        self.assertIsNotNone(raw.lost)
        self.assertEqual(raw.received, b"")
        self.network.advance(3)
        self.assertEqual(a.footprint()["connections"], 0)

    def test_what_openssl_says(self) -> None:
        error = SSL.Error([("SSL routines", "", "wrong version number")])
        self.assertEqual(tls.failure_text(error), "wrong version number")
        self.assertEqual(tls.failure_text(SSL.Error()), "the TLS session failed")
        self.assertEqual(tls.failure_text(SSL.Error([])), "the TLS session failed")

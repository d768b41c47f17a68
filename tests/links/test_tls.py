"""TLS of links: its version, its exporter, and the words for its errors."""

from __future__ import annotations

import gc
from weakref import ref

from OpenSSL import SSL
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.protocol import Factory

from tests.support.meshcase import PORT, Raw, TlsCase
from twisted_mesh.links import tls


class TestTls(TlsCase):
    def test_links_are_tls_1_3(self) -> None:
        a, b = self.chain(2)
        handle = a.routing_table[b.id].transport.getHandle()
        self.assertEqual(handle.get_protocol_version_name(), "TLSv1.3")
        self.assertIn(b"\x17\x03\x03", self.wire_bytes())

    def wire_bytes(self) -> bytes:
        """The bytes of a broadcast on the wire; asserts that they do not show its text."""
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

    def speaking(self, version: int) -> Raw:
        """A peer that has dialled a node 3 s ago with TLS of at most *version*."""
        node = self.node()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        endpoint = self.network.dial_from("10.9.9.9")(self.host(node), PORT)
        old = wrapClientTLS(tls._AnyPeer(context), endpoint, clock=self.network.clock)
        raw = Raw()
        old.connect(Factory.forProtocol(lambda: raw))
        self.network.advance(3)
        self.assertEqual(node.footprint()["connections"], raw.lost is None)
        return raw

    def test_older_versions_are_refused(self) -> None:
        self.assertNotEqual(self.speaking(SSL.TLS1_3_VERSION).received, b"")
        old = self.speaking(SSL.TLS1_2_VERSION)
        self.assertIsNotNone(old.lost)
        self.assertEqual(old.received, b"")

    def test_a_session_that_is_not_made_within_eight_kibibytes_is_cut(self) -> None:
        node = self.node()
        hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"  # a ClientHello of 16 KiB, which never ends
        for size, is_cut in ((tls.HELLO_BYTES, False), (tls.HELLO_BYTES + 1, True)):
            raw = self.dial(Raw(), node, encrypted=False)
            raw.write(hello.ljust(size, b"x"))
            self.network.pump()
            self.assertEqual(raw.lost is not None, is_cut)

    def test_what_openssl_says(self) -> None:
        error = SSL.Error([("SSL routines", "", "wrong version number")])
        self.assertEqual(tls.failure_text(error), "wrong version number")
        self.assertEqual(tls.failure_text(SSL.Error()), "the TLS session failed")
        self.assertEqual(tls.failure_text(SSL.Error([])), "the TLS session failed")


class TestEnd(TlsCase):
    """A link is freed as soon as its connection has ended.

    The garbage collector would stop a node for a tenth of a second when hundreds of strangers had come.
    """

    def setUp(self) -> None:
        super().setUp()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.service = self.node()

    def stranger(self, *, encrypted: bool) -> Raw:
        raw = self.dial(Raw(), self.service, encrypted=encrypted)
        self.network.pump()
        return raw

    def assert_freed(self, raw: Raw) -> None:
        """Check that the node keeps nothing of its only connection once *raw* has closed it."""
        (link,) = self.parts_of(self.service).connections
        kept = ref(link)
        del link
        raw.close()
        self.network.advance(3)
        self.assertIsNone(kept())

    def test_of_a_stranger_that_says_nothing(self) -> None:
        self.assert_freed(self.stranger(encrypted=False))

    def test_of_a_stranger_with_a_session(self) -> None:
        self.assert_freed(self.stranger(encrypted=True))

    def test_of_a_stranger_that_speaks_no_tls(self) -> None:
        raw = self.stranger(encrypted=False)
        raw.write(b"GET / HTTP/1.1\r\n\r\n")
        self.assert_freed(raw)

    def test_of_a_link(self) -> None:
        self.assert_freed(self.joined(self.service))

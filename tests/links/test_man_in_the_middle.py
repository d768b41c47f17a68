"""A man in the middle, with a TLS session of his own on either side."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.meshcase import PORT, Raw, TlsCase
from twisted_mesh.errors import NotAMember, Reason, RemoteError
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.trust.shared_secret import create
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.framing import FrameReader

HOST = "10.6.6.6"


class Half(Raw):
    """One side of the man in the middle: it sends each frame that comes on over the other side."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.other: Half | None = None
        self._change = change
        self._reader = FrameReader()
        self._held: list[bytes] = []

    def connectionMade(self) -> None:
        if self.other is not None:
            self.write(b"".join(self.other._held))

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        for payload in self._reader.feed(data):
            passed = self._change(len(payload).to_bytes(4, "big") + payload)
            if self.other is None or self.other.transport is None:
                self._held.append(passed)
            else:
                self.other.write(passed)


class TestManInTheMiddle(TlsCase):
    def relay(
        self,
        target: MeshService,
        *,
        encrypted: bool = True,
        change: Callable[[bytes], bytes] = lambda frame: frame,
    ) -> tuple[Half, Half]:
        """Let the man in the middle listen in place of *target*, and dial it; return his two halves."""
        to_dialler, to_target = Half(change), Half(change)
        self.serve([to_dialler], host=HOST, encrypted=encrypted)
        to_dialler.other, to_target.other = to_target, to_dialler
        self.dial(to_target, target, host=HOST, encrypted=encrypted)
        return to_dialler, to_target

    def test_a_relayed_proof_is_refused_under_tls(self) -> None:
        a, b = self.node(), self.node()
        before = self.lasting(a.footprint()), self.lasting(b.footprint())
        self.relay_then_connect(a, b)
        self.assertEqual((dict(a.routing_table), dict(b.routing_table)), ({}, {}))
        self.network.advance(5)
        self.assertEqual((self.lasting(a.footprint()), self.lasting(b.footprint())), before)
        self.assertEqual(self.reasons(b), ["proof"])
        self.assertEqual(self.happened(a, "connect") + self.happened(b, "connect"), [])

    def relay_then_connect(self, a: MeshService, b: MeshService) -> None:
        # The dialler's PROOF is for his TLS session with the dialler, not for that with the target.
        seen: list[bytes] = []

        def look(frame: bytes) -> bytes:
            seen.append(frame)
            return frame

        self.relay(b, change=look)
        link = a.connect(HOST, PORT)
        self.network.pump()
        self.assertIn(Kind.PROOF, [frame[4] for frame in seen])
        self.assertIs(self.failureResultOf(link, RemoteError).value.reason, Reason.PROOF)

    def test_a_relayed_knock_is_refused(self) -> None:
        path = self.mktemp()
        create(path)
        a, b = (self.node(trust=Trust.secret(path)) for _ in range(2))
        to_dialler, to_target = self.relay(b)
        link = a.connect(HOST, PORT)
        self.network.pump()
        self.assertEqual((to_target.received, to_target.lost is not None), (b"", True))
        to_dialler.close()
        self.assertIn("closed at our knock", str(self.failure_of(link, NotAMember)))
        self.assertEqual((dict(a.routing_table), dict(b.routing_table)), ({}, {}))

    def test_he_cannot_take_a_dialled_id(self) -> None:
        b = self.node()
        a = self.node(peers=[f"{b.id.decode()}@{HOST}:{PORT}"])
        self.network.pump()
        to_dialler, _ = self.relay(b)
        while not to_dialler.received:
            self.network.advance(0.1)
        self.assertIsNotNone(to_dialler.lost)
        del self.network.ports[HOST, PORT]
        self.assertEqual(dict(a.routing_table), {})
        self.assertEqual(dict(b.routing_table), {})

    def test_one_changed_byte_of_an_intro_is_refused_even_in_plain_text(self) -> None:
        a, b = self.node(encryption="Plaintext"), self.node(encryption="Plaintext")

        def change(frame: bytes) -> bytes:
            if frame[4:6] != bytes((Kind.INTRO, 0)):
                return frame
            nonce = frame.index(b"\xc4\x20", 44) + 2
            return frame[:nonce] + bytes((frame[nonce] ^ 1,)) + frame[nonce + 1 :]

        self.relay(b, encrypted=False, change=change)
        self.assertIs(self.failure_of(a.connect(HOST, PORT), RemoteError).reason, Reason.PROOF)
        self.assertEqual((dict(a.routing_table), dict(b.routing_table)), ({}, {}))

    def test_in_plain_text_he_can_relay_but_not_change_a_message(self) -> None:
        a, b = self.node(encryption="Plaintext"), self.node(encryption="Plaintext")

        def forge(frame: bytes) -> bytes:
            return frame.replace(b"true", b"fals") if frame[4] == Kind.BATCH else frame

        self.relay(b, encrypted=False, change=forge)
        self.assertEqual(self.result_of(a.connect(HOST, PORT)).id, b.id)
        self.send(a, "untouched")
        self.assertEqual(self.got(b), ["untouched"])
        self.send(a, "true")
        self.assertEqual(self.got(b), ["untouched"])
        self.assertEqual(len(self.log("a batch with a false signature")), 2)  # of b, and of a

"""Frames that come in part: they have one budget, and stand no longer than something comes of them."""

from __future__ import annotations

from tests.support.meshcase import MIB, MeshCase, Puppet
from twisted_mesh import flags
from twisted_mesh.wire.framing import LENGTH_BYTES, MAX_FRAME_BYTES

HEAD = MAX_FRAME_BYTES.to_bytes(LENGTH_BYTES, "big")
CROWD = "10.9.9.9"


class TestHalfFrames(MeshCase):
    def linked_from(self, host: str, count: int) -> list[Puppet]:
        """Puppets at *host* that are linked with the first node."""
        a = self.services[0]
        peers = [self.met(a, host=host, encrypted=False) for _ in range(count)]
        self.assertEqual([peer.me.id in a.routing_table for peer in peers], [True] * count)
        return peers

    def begin(self, peers: list[Puppet], size: int = 600_000) -> None:
        """Let each of *peers* send *size* bytes of a frame that it never ends."""
        for peer in peers:
            peer.write(HEAD.ljust(size, b"\x77"))
        self.network.pump()

    def test_half_a_frame_does_not_stand_for_ever_though_its_peer_reads(self) -> None:
        a = self.node(encryption="Plaintext")
        (peer,) = self.linked_from(CROWD, 1)
        self.begin([peer], 5)
        for _ in range(23):
            a.send(b"x" * 100_000, flag=flags.whisper)  # so that the transport accepts more, after a pause
            self.network.advance(1)
        self.assertIsNotNone(peer.lost)
        self.assertEqual(len(self.log("half a frame came, and nothing after it")), 1)

    def test_half_frames_of_many_links_are_kept_within_one_budget(self) -> None:
        a = self.node(encryption="Plaintext", limits={"half_frames_bytes": 4 * MIB})
        crowd = self.linked_from(CROWD, 20)
        self.begin(crowd)
        footprint = a.footprint()
        self.assertLessEqual(footprint["half_frames_bytes"], 4 * MIB)
        self.assertEqual(footprint["half_frames"], 6)
        self.assertEqual(sum(peer.lost is None for peer in crowd), 6)
        self.assertEqual({peer.bye.reason for peer in crowd if peer.bye}, {"limit"})

    def test_of_the_host_with_most_the_link_goes_that_brought_least_lately(self) -> None:
        a = self.node(encryption="Plaintext", limits={"half_frames_bytes": 4 * MIB})
        crowd = self.linked_from(CROWD, 6)
        (honest,) = self.linked_from("10.8.0.1", 1)
        self.begin(crowd)
        for _ in range(9):
            for peer in crowd[1:]:
                peer.write(b"x")
            self.network.advance(1)
        self.begin([honest], 700_000)
        self.assertEqual([peer.lost is None for peer in (*crowd, honest)], [False] + [True] * 6)
        self.assertEqual(a.footprint()["half_frames"], 6)

    def test_a_frame_that_becomes_whole_leaves_nothing(self) -> None:
        a = self.node(encryption="Plaintext")
        (peer,) = self.linked_from(CROWD, 1)
        self.begin([peer], 1000)
        self.assertEqual(a.footprint()["half_frames_bytes"], 1000)
        peer.write(bytes(MAX_FRAME_BYTES + LENGTH_BYTES - 1000))
        self.network.pump()
        self.assertEqual((a.footprint()["half_frames"], a.footprint()["half_frames_bytes"]), (0, 0))
        self.assertIsNone(peer.lost)

    def test_nor_does_one_whose_link_ends(self) -> None:
        a = self.node(encryption="Plaintext")
        (peer,) = self.linked_from(CROWD, 1)
        self.begin([peer], 1000)
        peer.close()
        self.network.pump()
        self.assertEqual((a.footprint()["half_frames"], a.footprint()["half_frames_bytes"]), (0, 0))

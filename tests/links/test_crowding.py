"""One host that opens many connections keeps nobody out: of too many, one of the host with most goes."""

from __future__ import annotations

from typing import Any, cast

from tests.support.length import at_length
from tests.support.meshcase import PORT, MeshCase, Puppet, Raw
from twisted_mesh.errors import RemoteError
from twisted_mesh.links import accepting
from twisted_mesh.service import MeshService

CROWD = "10.9.9.9"


class CrowdCase(MeshCase):
    """A node in plain text; its limits are small."""

    def crowded(self, **limits: Any) -> MeshService:
        return self.node(encryption="Plaintext", limits=limits)

    def dialled(self, service: MeshService, host: str = CROWD, **options: Any) -> Puppet:
        """A puppet at *host* that has dialled *service*."""
        return self.met(service, host=host, encrypted=False, **options)

    def silent(self, service: MeshService, host: str = CROWD, said: bytes = b"") -> Raw:
        """A stranger at *host* that says nothing but *said*."""
        raw: Raw = self.dial(Raw(), service, host=host, encrypted=False)
        raw.write(said)
        self.network.pump()
        return raw

    def half(self, service: MeshService, host: str = CROWD) -> Raw:
        """A stranger at *host* that sends half a frame."""
        return self.silent(service, host, b"\0")

    def linked_to(self, service: MeshService, peers: list[Puppet]) -> list[bool]:
        return [peer.me.id in service.routing_table for peer in peers]


class TestLinks(CrowdCase):
    def test_one_host_takes_no_more_than_three_quarters_of_the_links(self) -> None:
        a = self.crowded(links_limit=8)
        crowd = [self.dialled(a) for _ in range(9)]
        self.assertEqual(self.linked_to(a, crowd), [True] * 6 + [False] * 3)
        self.assertEqual([peer.bye.reason for peer in crowd[6:] if peer.bye], ["full"] * 3)

    def test_all_links_taken_by_one_host_keep_no_other_host_out(self) -> None:
        a = self.crowded(links_limit=8)
        crowd = [self.dialled(a) for _ in range(9)]
        others = [self.dialled(a, f"10.8.0.{number}") for number in range(5)]
        self.assertEqual(self.linked_to(a, others), [True] * 5)
        self.assertEqual(sum(self.linked_to(a, crowd)), 1)
        closed = [peer.bye.reason for peer in crowd if peer.bye]
        self.assertEqual(closed, ["full"] * 8)

    def test_addresses_of_one_network_of_ipv6_count_as_one_host(self) -> None:
        a = self.crowded(links_limit=8)
        crowd = [self.dialled(a, f"2001:db8::{number}") for number in range(1, 10)]
        other = self.dialled(a, "2001:db8:0:1::1")
        self.assertEqual(sum(self.linked_to(a, crowd)), 5)
        self.assertEqual(self.linked_to(a, [other]), [True])

    def test_if_no_host_has_more_than_another_the_last_that_came_is_refused(self) -> None:
        a = self.crowded(links_limit=8)
        peers = [self.dialled(a, f"10.8.0.{number}") for number in range(8)]
        self.assertEqual(self.linked_to(a, peers), [True] * 6 + [False] * 2)

    def test_a_quarter_is_kept_for_links_that_this_node_dials(self) -> None:
        a = self.crowded(links_limit=8)
        for number in range(8):
            self.dialled(a, f"10.8.0.{number}")
        b, c = self.crowded(), self.crowded()
        self.link((a, b), (a, c))
        self.assertEqual(len(a.routing_table), 8)

    def test_and_for_configured_peers_that_dial_this_node(self) -> None:
        b = self.make(encryption="Plaintext")
        at = f"{b.id.decode()}@10.7.7.7:1"
        a = self.node(encryption="Plaintext", limits={"links_limit": 8}, peers=[at])
        for number in range(8):
            self.dialled(a, f"10.8.0.{number}")
        b.startService()
        self.link((b, a))

    def test_and_for_members_that_were_up_for_ten_minutes(self) -> None:
        a, old = self.crowded(links_limit=8), self.crowded()
        self.link((old, a), after=700)
        young = self.crowded()
        self.unlink(old, a)
        for number in range(8):
            self.dialled(a, f"10.8.0.{number}")
        self.failure_of(young.connect(self.host(a), PORT), RemoteError)
        self.link((old, a))

    def test_links_that_have_stood_for_ten_minutes_are_closed_last(self) -> None:
        a = self.crowded(links_limit=4, established_after=1.0)
        old = [self.dialled(a), self.dialled(a)]
        self.network.advance(2)
        young = self.dialled(a)
        others = [self.dialled(a, f"10.8.0.{number}") for number in range(2)]
        self.assertEqual(self.linked_to(a, [*old, young, *others]), [True, True, False, True, True])

    def test_but_they_keep_no_other_host_out(self) -> None:
        a = self.crowded(links_limit=4, established_after=1.0)
        old = [self.dialled(a) for _ in range(3)]
        self.network.advance(2)
        others = [self.dialled(a, f"10.8.0.{number}") for number in range(2)]
        self.assertEqual(self.linked_to(a, [*old, *others]), [True, True, False, True, True])


class TestStrangers(CrowdCase):
    def test_below_three_quarters_no_host_is_limited(self) -> None:
        a = self.crowded(handshakes_limit=8)
        crowd = [self.silent(a) for _ in range(6)]
        self.assertEqual([raw.lost for raw in crowd], [None] * 6)

    def test_a_host_that_opens_many_closes_its_own_oldest(self) -> None:
        a = self.crowded(handshakes_limit=8)
        first = self.silent(a, "10.8.0.1")
        crowd = [self.silent(a) for _ in range(50)]
        last = self.silent(a, "10.8.0.2")
        self.assertEqual([first.lost, last.lost], [None, None])
        self.assertEqual([raw.lost is None for raw in crowd], [False] * 45 + [True] * 5)

    def test_if_no_host_has_more_than_another_the_oldest_goes(self) -> None:
        a = self.crowded(handshakes_limit=8)
        raws = [self.silent(a, f"10.8.0.{number}") for number in range(10)]
        self.assertEqual([raw.lost is None for raw in raws], [False] * 2 + [True] * 8)


class TestWaiting(CrowdCase):
    def test_connections_of_one_host_that_come_faster_than_its_rate_wait(self) -> None:
        a = self.crowded(accept_burst=2, accept_rate=10.0)
        crowd = [self.dialled(a) for _ in range(4)]
        other = self.dialled(a, "10.8.0.1")
        self.assertEqual(self.linked_to(a, [*crowd, other]), [True, True, False, False, True])
        self.assertEqual(a.footprint()["waiting_connections"], 2)
        self.network.advance(0.11)
        self.assertEqual(self.linked_to(a, crowd), [True, True, False, True])  # the newest first
        self.network.advance(0.11)
        self.assertEqual(self.linked_to(a, crowd), [True] * 4)

    def test_those_of_this_host_do_not(self) -> None:
        a = self.crowded(accept_burst=1, accept_rate=0.1)
        for host in ("127.0.0.1", "::1", ""):
            crowd = [self.dialled(a, host) for _ in range(3)]
            self.assertEqual(self.linked_to(a, crowd), [True] * 3, host)

    def test_a_connection_that_waits_too_long_is_told_full(self) -> None:
        for encryption in ("Plaintext", "SSL"):
            a = self.node(encryption=encryption, limits={"accept_burst": 1, "accept_rate": 0.1})
            encrypted = encryption == "SSL"
            first, second = (self.met(a, encrypted=encrypted) for _ in range(2))
            self.network.advance(4.9)
            self.assertEqual((first.bye, second.bye, second.lost), (None, None, None))
            self.network.advance(0.2)
            assert second.bye is not None
            self.assertEqual((first.bye, second.bye.reason), (None, "full"))

    def test_if_there_are_many_of_those_they_are_cut(self) -> None:
        a = self.crowded(accept_burst=1, accept_rate=0.1)
        crowd = [self.half(a) for _ in range(40)]
        self.network.advance(5.1)
        self.assertEqual(sum(raw.lost is not None for raw in crowd), 39 - 15)

    def test_sessions_are_begun_at_one_rate_for_all_and_hosts_take_turns(self) -> None:
        a = self.crowded(handshakes_burst=1, handshakes_rate=10.0)
        crowd = [self.dialled(a) for _ in range(20)]
        others = [self.dialled(a, f"10.8.0.{number}") for number in range(3)]
        self.network.advance(0.55)
        self.assertEqual((sum(self.linked_to(a, crowd)), sum(self.linked_to(a, others))), (2, 3))

    def test_a_stranger_that_waits_goes_before_one_that_has_begun(self) -> None:
        a = self.crowded(handshakes_limit=4, accept_burst=2, accept_rate=0.1)
        raws = [self.half(a) for _ in range(4)]
        self.assertEqual([raw.lost is None for raw in raws], [True, True, False, True])

    def test_and_one_that_says_nothing_before_both_and_takes_no_time_from_others(self) -> None:
        a = self.crowded(handshakes_limit=4, accept_burst=2, accept_rate=0.1)
        silent = [self.silent(a) for _ in range(10)]
        raws = [self.half(a) for _ in range(3)]
        self.assertEqual([raw.lost is None for raw in (*silent, *raws)], [False] * 10 + [True] * 3)
        self.assertEqual(a.footprint()["waiting_connections"], 1)

    def test_a_connection_that_ends_waits_no_longer(self) -> None:
        a = self.crowded(accept_burst=1, accept_rate=0.1, handshake_timeout=1.0)
        for _ in range(3):
            self.half(a)
        self.network.advance(3)
        self.assertEqual((a.footprint()["waiting_connections"], a.footprint()["connections"]), (0, 0))

    def test_rates_of_so_many_hosts_are_remembered(self) -> None:
        self.patch(accepting, "SITES", 40)
        a = self.crowded()
        for number in range(50):
            self.half(a, f"10.1.0.{number}").close()
        self.assertEqual(a.footprint()["accept_rates"], 40)


class TestHub(CrowdCase):
    def test_300_clients_of_one_host_that_come_at_once_are_linked_in_two_seconds(
        self,
    ) -> None:
        a = self.crowded()
        count = at_length(300, 100)
        clients = [self.puppet(encrypted=False) for _ in range(count)]
        for client in clients:
            self.dial(client, a, host=CROWD, encrypted=False)
        self.network.advance(2)
        self.assertEqual(sum(self.linked_to(a, clients)), count)


class TestDescriptors(CrowdCase):
    def allowed(self, descriptors: int, **limits: Any) -> MeshService:
        """A node whose process may have so many descriptors open."""
        a: Any = self.make(encryption="Plaintext", limits=limits)
        a.descriptors = descriptors
        a.startService()
        return cast(MeshService, a)

    def test_at_256_descriptors_600_idle_connections_leave_some_free(self) -> None:
        a = self.allowed(256)
        crowd = [Raw() for _ in range(600)]
        for number, raw in enumerate(crowd):
            self.dial(raw, a, host=f"10.8.{number // 100}.{number % 100}", encrypted=False)
        self.network.pump()
        self.assertEqual(sum(raw.lost is None for raw in crowd), 64)
        self.result_of(self.crowded().connect(self.host(a), PORT), after=1)
        self.assertEqual(len(self.log("at most 128 links, and 64 connections that have proven nothing")), 1)

    def test_a_quarter_of_the_links_that_are_left_is_kept_too(self) -> None:
        a = self.allowed(16, descriptors_kept=4, links_limit=16, handshakes_limit=8)
        crowd = [self.dialled(a) for _ in range(10)]
        self.assertEqual(sum(self.linked_to(a, crowd)), 6)

    def test_limits_that_fit_stay(self) -> None:
        a = self.allowed(1600)
        self.assertEqual(self.parts_of(a).connections.config, a.config)
        self.assertEqual(self.log("descriptors"), [])

    def test_connections_that_close_slowly_go_if_there_are_too_many(self) -> None:
        a = self.allowed(16, descriptors_kept=4, links_limit=6, handshakes_limit=6)
        for number in range(40):
            raw = self.dial(Raw(), a, host=f"10.8.0.{number}", encrypted=False)
            raw.write(b"\xff" * 8)
            end = self.network.between(f"10.8.0.{number}", self.host(a))[0]
            end.reads = False
            self.network.pump()
        self.assertLessEqual(a.footprint()["connections"], 12)

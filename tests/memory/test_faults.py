"""Faults that MemoryMesh makes by its own verbs: slow links, full disks, restarts."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_in_fork
from twisted_mesh import Identity
from twisted_mesh.errors import StoreFull
from twisted_mesh.testing import MemoryMesh


class SlowLinkTests(SynchronousTestCase):
    def test_bytes_take_their_time_in_each_direction_also_over_a_new_connection(self) -> None:
        with MemoryMesh(2) as mesh:
            mesh.slow_link(1, 0, 10_000)
            for _ in range(2):
                for number, service in enumerate(mesh.services):
                    service.send(bytes(100_000))
                    before = len(mesh.received(1 - number))
                    mesh.run(9.5)
                    self.assertEqual(len(mesh.received(1 - number)), before)
                    mesh.run(3)
                    self.assertEqual(len(mesh.received(1 - number)), before + 1)
                mesh.network.cut("10.0.0.1", "10.0.0.2")
                mesh.run(61)
            mesh.slow_link(0, 1, None)
            mesh.services[0].send(bytes(100_000))
            mesh.run(0.1)
            self.assertEqual(len(mesh.received(1)), 3)

    def test_others_are_as_fast_as_before(self) -> None:
        with MemoryMesh(3, topology=[(0, 1), (0, 2)]) as mesh:
            mesh.slow_link(0, 1, 1000)
            mesh.services[0].send(bytes(100_000))
            mesh.run(1)
            self.assertEqual([len(mesh.received(number)) for number in (1, 2)], [0, 1])
            mesh.slow_link(0, 1, None)
            mesh.run(1)

    def test_a_rate_that_cannot_be(self) -> None:
        with MemoryMesh(2) as mesh:
            for rate in (0, -1, float("nan"), float("inf")):
                self.assertRaises(ValueError, mesh.slow_link, 0, 1, rate)
            self.assertRaises(IndexError, mesh.slow_link, 0, 2, 1000)


class DiskTests(SynchronousTestCase):
    def test_while_it_is_full_nothing_is_sent_and_what_comes_is_delivered(
        self,
    ) -> None:
        with MemoryMesh(1) as mesh:
            service = mesh.add(0, identity=Identity.load_or_create(self.mktemp()), history=self.mktemp())
            mesh.run(1)
            mesh.fill_disk(1)
            for times in (1, 2):  # a restart forgets what was not stored
                mesh.services[0].send("x")
                mesh.run(2)
                self.assertEqual([message.packets[1] for message in mesh.received(1)], ["x"] * times)
                self.assertRaises(StoreFull, service.send, "y")
                self.assertEqual([name for name, _ in mesh.events(1) if name == "failure"], ["failure"])
                service = mesh.restart(1)
                mesh.run(2)
            drained: Deferred[None] = service.drained()
            self.assertNoResult(drained)
            mesh.free_disk(1)
            mesh.run(service.config.store_retry + 1)
            self.successResultOf(drained)
            service.send("y")
            mesh.run(1)
            self.assertEqual([message.packets[1] for message in mesh.received(0)], ["y"])


class RestartTests(SynchronousTestCase):
    def test_a_fork_closes_no_file_for_a_killed_node(self) -> None:
        with MemoryMesh(0) as mesh:
            mesh.add(identity=Identity.load_or_create(self.mktemp()), history=self.mktemp())
            mesh.kill(0)
            later = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]  # one has the number of the lock
            for descriptor in later:
                self.addCleanup(os.close, descriptor)
            self.assertEqual(open_in_fork(later), len(later))

    def test_it_is_another_process_with_the_same_key(self) -> None:
        with MemoryMesh(2) as mesh:
            before = mesh.services[1]
            after = mesh.restart(1)
            self.assertIs(mesh.services[1], after)
            self.assertIsNot(before, after)
            mesh.run(2)
            self.assertEqual((after.id, set(mesh.services[0].routing_table)), (before.id, {before.id}))

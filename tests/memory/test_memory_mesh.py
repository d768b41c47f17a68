"""MemoryMesh: its promises to the tests of users."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import twisted_mesh
from tests.support.length import at_length, only_at_length
from twisted_mesh import MeshConfig, MeshService, flags
from twisted_mesh.testing import MemoryMesh
from twisted_mesh.trust.policy import Trust
from twisted_mesh.trust.shared_secret import create

QUICK = MeshConfig(redial_longest=2.0)


def story(seed: int) -> list[str]:
    """Everything that can be seen of a mesh with faults and restarts."""
    with MemoryMesh(4, seed=seed, topology="ring", config=QUICK) as mesh:
        for number in range(4):
            mesh.services[number].send(number, "at once")
        mesh.run(1)
        mesh.partition((0, 1))
        mesh.services[1].send("apart")
        mesh.services[2].send("apart", "too")
        mesh.run(20)
        mesh.kill(3)
        mesh.heal()
        mesh.run(5)
        mesh.start(3)
        mesh.run(5)
        mesh.services[3].send("again")
        mesh.run(1)
        seen = [f"{source} {target} {when}" for source, target, when in mesh.network.dials]
        for number in range(4):
            seen += [f"{number} {m.time} {m.id} {m.sender!r} {m.packets}" for m in mesh.received(number)]
            seen += [f"{number} {name}" for name, _ in mesh.events(number)]
    return seen


told_once = cache(story)


class MeshTests(SynchronousTestCase):
    def mesh(self, count: int, **options: Any) -> MemoryMesh:
        """A mesh that is stopped at the end, and must leave nothing behind."""
        mesh = MemoryMesh(count, **{"seed": 1, **options})
        self.addCleanup(self.assert_nothing_left, mesh)
        self.addCleanup(mesh.stop)
        return mesh

    def assert_nothing_left(self, mesh: MemoryMesh) -> None:
        """Assert that there is no connection, port, timer or table."""
        self.assertEqual((mesh.network.ends, mesh.network.ports), ([], {}))
        self.assertEqual(mesh.clock.getDelayedCalls(), [])

    def got(self, mesh: MemoryMesh, node: int) -> dict[int, list[Any]]:
        """By author, the first packets of what a node received."""
        numbers = {service.id: number for number, service in enumerate(mesh.services)}
        got: dict[int, list[Any]] = {}
        for message in mesh.received(node):
            got.setdefault(numbers[message.sender], []).append(message.packets[1])
        return got


class TestTopology(MeshTests):
    def linked(self, mesh: MemoryMesh) -> list[tuple[int, int]]:
        """The pairs that are linked."""
        tables = [service.routing_table for service in mesh.services]
        ids = [service.id for service in mesh.services]
        pairs = combinations(range(len(ids)), 2)
        return [(one, other) for one, other in pairs if ids[other] in tables[one]]

    def test_everyone_is_linked_with_everyone_unless_told_otherwise(self) -> None:
        for topology, pairs in (
            (None, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
            ("full", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
            ("ring", [(0, 1), (0, 3), (1, 2), (2, 3)]),
            ("chain", [(0, 1), (1, 2), (2, 3)]),
            ([(3, 0), (1, 0)], [(0, 1), (0, 3)]),
        ):
            options = {} if topology is None else {"topology": topology}
            self.assertEqual(self.linked(self.mesh(4, **options)), pairs)

    def test_small_ones(self) -> None:
        for topology in ("full", "ring", "chain"):
            for count, links in ((0, 0), (1, 0), (2, 1)):
                mesh = self.mesh(count, topology=topology)
                self.assertEqual((len(mesh.services), len(self.linked(mesh))), (count, links))

    def test_one_that_cannot_be_is_refused(self) -> None:
        for topology in ("star", [(0, 3)], [(1, 1)], [(-1, 0)]):
            self.assertRaises(ValueError, MemoryMesh, 3, topology=topology)
        count: Any
        for count in (-1, "3", 2.5):
            self.assertRaises(ValueError, MemoryMesh, count)
        for option in ("identity", "listen", "history"):
            error = self.assertRaises(ValueError, MemoryMesh, 2, **{option: None})
            self.assertIn("add()", str(error))

    def test_nodes_that_do_not_link_are_told_with_the_reason(self) -> None:
        error = self.assertRaises(RuntimeError, MemoryMesh, 3, config=MeshConfig(links_limit=1))
        self.assertIn("are not linked: ['full: ", str(error))

    def test_trust_says_who_is_linked(self) -> None:
        path = self.mktemp()
        create(path)
        mesh = self.mesh(3, trust=Trust.secret(path))
        mesh.services[0].send("for those inside")
        outside = mesh.add(0)
        mesh.run(30)
        self.assertEqual([len(mesh.received(node)) for node in range(4)], [0, 1, 1, 0])
        self.assertEqual(dict(outside.routing_table), {})

    def test_options_are_those_of_every_service(self) -> None:
        mesh = self.mesh(2, subnet="mine", config=QUICK)
        for service in mesh.services:
            self.assertIsInstance(service, MeshService)
            self.assertEqual((service.protocol.subnet, service.config), ("mine", QUICK))
            self.assertEqual(service.protocol.encryption, "SSL")

    def test_with_an_overlay_they_find_neighbours_as_they_do_in_life(self) -> None:
        count = at_length(20, 6)
        mesh = self.mesh(count, topology="chain", overlay=True)
        mesh.run(35)
        self.assertTrue(all(len(service.members) == count - 1 for service in mesh.services))
        self.assertGreaterEqual(min(len(service.routing_table) for service in mesh.services), 3)
        mesh.services[0].send("x")
        mesh.run(1)
        self.assertTrue(all(len(mesh.received(number)) == 1 for number in range(1, count)))

    def test_a_node_may_come_later_and_be_another(self) -> None:
        mesh = self.mesh(2)
        late = mesh.add(1, listen=(), config=QUICK)
        early = mesh.add(started=False)
        mesh.run()
        self.assertEqual(self.linked(mesh), [(0, 1), (1, 2)])
        self.assertEqual((late.addresses, late.config, early.running), ((), QUICK, 0))
        early.startService()
        early.connect(*mesh.address(0))
        mesh.run()
        mesh.services[0].send("x")
        mesh.run()
        self.assertEqual([self.got(mesh, node) for node in (1, 2, 3)], [{0: ["x"]}] * 3)

    def test_a_node_that_is_not_there(self) -> None:
        mesh = self.mesh(2)
        for ask in (mesh.address, mesh.received, mesh.events, mesh.kill, mesh.start, mesh.add):
            for number in (-1, 2):
                self.assertRaises(IndexError, ask, number)
        node: Any = mesh.services[0]
        self.assertRaises(TypeError, mesh.received, node)
        self.assertEqual(len(mesh.services), 2)


class TestReceived(MeshTests):
    def test_each_has_everything_once_and_in_order(self) -> None:
        for topology in at_length(("full", "ring", "chain"), ("ring",)):
            mesh = self.mesh(5, topology=topology)
            for number in range(10):
                for author, service in enumerate(mesh.services):
                    service.send((author, number))
                mesh.run(0.01)
            for node in range(5):
                said = {a: [[a, number] for number in range(10)] for a in range(5) if a != node}
                self.assertEqual(self.got(mesh, node), said)

    def test_it_counts_whoever_took_it(self) -> None:
        mesh = self.mesh(2)
        mesh.services[1].register_handler(lambda message, link: True)
        mesh.services[0].send("a", type=0x30)
        mesh.services[0].send("b", flag=flags.whisper)
        mesh.run()
        received = mesh.received(1)
        # A whisper is sent at once, a broadcast at the end of the turn.
        self.assertEqual([message.packets for message in received], [[0, "b"], [0x30, "a"]])
        received.clear()
        self.assertEqual(len(mesh.received(1)), 2)
        self.assertEqual(mesh.received(0), [])

    def test_events_are_there_as_well(self) -> None:
        mesh = self.mesh(2, config=QUICK)
        member = mesh.services[0].members[mesh.services[1].id]
        self.assertEqual(mesh.events(0), [("connect", mesh.services[0]), ("member", member)])
        mesh.network.cut(mesh.address(0)[0], mesh.address(1)[0])
        mesh.run(5)
        names = [name for name, _ in mesh.events(0)]
        self.assertEqual(names, ["connect", "member", "disconnect", "member", "connect", "member"])

    def test_time_is_the_clocks(self) -> None:
        mesh = self.mesh(2)
        for _ in range(3):
            mesh.run(100)
            mesh.services[0].send("cuckoo")
        mesh.run()
        self.assertEqual([message.time for message in mesh.received(1)], [100.0, 200.0, 300.0])
        self.assertEqual(mesh.clock.seconds(), 300.0)
        for seconds in (-1, math.nan, math.inf, "1", True, None):
            self.assertRaises(ValueError, mesh.run, seconds)

    def test_what_happens_does_not_let_happen(self) -> None:
        mesh = self.mesh(2)
        mesh.services[0].on("message", lambda message: mesh.run(1))
        mesh.services[0].on("message", lambda message: mesh.stop())
        mesh.services[1].send("x")
        mesh.run(1)
        failures = [failure for name, failure in mesh.events(0) if name == "failure"]
        self.assertEqual([failure.type for failure in failures], [RuntimeError] * 2)
        self.assertEqual(mesh.clock.seconds(), 1.0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_what_never_ends_is_an_error(self) -> None:
        mesh = self.mesh(2)
        for service in mesh.services:
            service.on("message", lambda message: None if self.enough else message.reply("and you?"))
        self.enough = False
        mesh.services[0].send("how are you?")
        error = self.assertRaises(RuntimeError, mesh.network.pump, 300)
        self.assertEqual(str(error), "still moving after 300 steps without time passing")
        self.enough = True
        mesh.run()  # so that the last reply is acknowledged


class TestPartition(MeshTests):
    def test_partition_and_heal_lose_nothing(self) -> None:
        for seconds, links_last in ((1, True), (60, False)):
            mesh = self.mesh(4, config=QUICK)
            said: dict[int, list[Any]] = {author: [] for author in range(4)}

            def say(mesh: MemoryMesh, said: dict[int, list[Any]], what: str) -> None:
                for author, service in enumerate(mesh.services):
                    service.send(what)
                    said[author].append(what)
                mesh.run(0.1)

            say(mesh, said, "before")
            mesh.partition((0, 1), (2, 3))
            for number in range(10):
                say(mesh, said, f"apart {number}")
            mesh.run(seconds)
            for node, near, far in ((0, 1, (2, 3)), (3, 2, (0, 1))):
                heard = {near: said[near]} | {author: ["before"] for author in far}
                self.assertEqual(self.got(mesh, node), heard)
                self.assertEqual(len(mesh.services[node].routing_table), 3 if links_last else 1)
            mesh.heal()
            mesh.run(QUICK.redial_longest + 1)
            say(mesh, said, "after")
            for node in range(4):
                self.assertEqual(self.got(mesh, node), {a: said[a] for a in range(4) if a != node})
                told = [name for name, _ in mesh.events(node) if name != "member"]
                self.assertEqual(told, ["connect"])
                self.assertEqual(len(mesh.services[node].routing_table), 3)

    def test_who_is_in_no_group_is_with_all_others_of_none(self) -> None:
        mesh = self.mesh(3)
        mesh.partition((1,))
        for service in mesh.services:
            service.send("x")
        mesh.run(1)
        heard = [sorted(self.got(mesh, node)) for node in range(3)]
        self.assertEqual(heard, [[2], [], [0]])

    def test_a_dial_that_is_under_way_when_it_heals_arrives(self) -> None:
        mesh = self.mesh(2)
        mesh.partition((0,))
        while len(mesh.network.dials) == 1:
            mesh.run(1)
        self.assertEqual(len(mesh.services[1].routing_table), 0)
        mesh.heal()
        mesh.run()
        self.assertEqual(len(mesh.services[1].routing_table), 1)

    def test_another_takes_the_place_of_the_last(self) -> None:
        mesh = self.mesh(3)
        mesh.partition((0,))
        mesh.partition((2,))
        mesh.services[0].send("x")
        mesh.run(1)
        self.assertEqual([self.got(mesh, 1), self.got(mesh, 2)], [{0: ["x"]}, {}])

    def test_a_node_that_is_in_two_groups_or_does_not_exist_is_refused(self) -> None:
        mesh = self.mesh(3)
        groups: Any
        for groups in ([(0, 1), (1, 2)], [(0, 3)], [(-1,)], [0, 1]):
            self.assertRaises(ValueError, mesh.partition, *groups)


class TestKill(MeshTests):
    def test_a_node_that_is_killed_says_and_does_nothing_more(self) -> None:
        mesh = self.mesh(3, config=QUICK)
        dead = mesh.services[1]
        dead.send("never sent")  # it would be sent at the end of this turn, which does not come
        mesh.kill(1)
        mesh.services[0].send("to who is there")
        mesh.run(1)
        self.assertEqual(self.got(mesh, 2), {0: ["to who is there"]})
        self.assertEqual(list(mesh.services[0].routing_table), [mesh.services[2].id])
        self.assertEqual((mesh.received(1), self.got(mesh, 0)), ([], {}))
        # If it lived, it would send PINGs and dial its lost neighbours.
        dials = len(mesh.network.dials)
        dead.send("nor this")
        mesh.kill(2)
        timers = list(mesh.clock.getDelayedCalls())
        mesh.services[2].send("nor this")
        self.assertEqual(mesh.clock.getDelayedCalls(), timers)
        mesh.run(60)
        self.assertEqual(mesh.network.dials[dials:], [])
        self.assertEqual((mesh.received(1), self.got(mesh, 0)), ([], {}))

    def test_in_the_middle_of_a_dial(self) -> None:
        mesh = self.mesh(1)
        mesh.network.connect_takes = 1.0
        mesh.add(0)
        mesh.run(0.5)
        mesh.kill(1)
        mesh.run(60)
        self.assertEqual((mesh.network.ends, mesh.events(0)), ([], []))

    def test_what_had_arrived_is_read_and_then_the_end(self) -> None:
        mesh = self.mesh(2, topology="chain")
        there = mesh.network.between(mesh.address(1)[0], mesh.address(0)[0])[0]
        there.reads = False
        mesh.services[0].send("last words")
        mesh.run()
        mesh.kill(0)
        there.reads = True
        mesh.run()
        self.assertEqual(self.got(mesh, 1), {0: ["last words"]})
        self.assertEqual(
            [name for name, _ in mesh.events(1) if name != "member"], ["connect", "disconnect"]
        )

    def test_with_something_unread_the_connection_is_reset(self) -> None:
        mesh = self.mesh(2, topology="chain")
        there = mesh.network.between(mesh.address(1)[0], mesh.address(0)[0])[0]
        there.far.reads = False
        mesh.services[1].send("unread")
        mesh.run()
        mesh.kill(0)
        self.assertTrue(there.closed)

    def test_behind_a_partition_nobody_hears_of_it_before_it_heals(self) -> None:
        mesh = self.mesh(2, config=QUICK)
        mesh.partition((0,))
        mesh.kill(0)
        mesh.run(1)
        self.assertEqual(len(mesh.services[1].routing_table), 1)
        mesh.heal()
        mesh.run(1)
        self.assertEqual(len(mesh.services[1].routing_table), 0)

    def test_a_node_that_starts_again_is_a_newcomer_with_the_same_key(self) -> None:
        for number in (0, 1, 2):  # node 0 is dialled by both others, node 1 by one, node 2 by none
            mesh = self.mesh(3, config=QUICK)
            author = mesh.services[(number + 1) % 3]
            author.send("before")
            mesh.run(1)
            mesh.kill(number)
            author.send("missed")
            mesh.run(5)
            dead = mesh.services[number]
            self.assertEqual(len(mesh.received(number)), 1)
            born = mesh.start(number)
            self.assertIs(mesh.services[number], born)
            self.assertEqual((born.id, mesh.received(number)), (dead.id, []))
            mesh.run(QUICK.redial_longest + 1)
            author.send("after")
            born.send("I am back")
            mesh.run(1)
            self.assertEqual(self.got(mesh, number), {(number + 1) % 3: ["after"]})
            self.assertEqual(self.got(mesh, (number + 1) % 3), {number: ["I am back"]})

    def test_one_that_runs_or_was_stopped_is_not_started(self) -> None:
        mesh = self.mesh(2)
        self.assertRaises(RuntimeError, mesh.start, 0)
        mesh.services[0].stopService()
        mesh.run(1)
        self.assertRaises(RuntimeError, mesh.start, 0)
        mesh.services[0].startService()
        mesh.run(60)
        self.assertEqual(len(mesh.services[1].routing_table), 1)


class TestSeed(SynchronousTestCase):
    def setUp(self) -> None:
        self.told = told_once(7)

    def test_the_same_seed_gives_the_same_run(self) -> None:
        self.assertGreater(len(self.told), 25)
        self.assertEqual(story(7), self.told)

    def test_another_gives_another(self) -> None:
        self.assertNotEqual(story(8), self.told)

    def test_in_another_process_too_and_without_a_reactor(self) -> None:
        only_at_length()
        code = (
            "import sys; from tests.memory.test_memory_mesh import story; print(*story(7), sep='\\n');"
            "assert 'twisted.internet.reactor' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(twisted_mesh.__file__).parent.parent,
            env={**os.environ, "PYTHONHASHSEED": "1"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.splitlines(), self.told)


@implementer(IStreamServerEndpoint)
class Stubborn:
    """A port that is closed as *stop* says."""

    def __init__(self, stop: Callable[[], Deferred[None]]) -> None:
        self.stopListening = stop
        self.getHost = lambda: None

    def listen(self, factory: object) -> Deferred[Any]:
        return succeed(self)


class TestStop(MeshTests):
    def test_nothing_is_left_whatever_was_going_on(self) -> None:
        def nothing(mesh: MemoryMesh) -> None:
            pass

        def parted(mesh: MemoryMesh) -> None:
            mesh.partition((0,), (1, 2))
            mesh.run(30)

        def killed(mesh: MemoryMesh) -> None:
            mesh.kill(1)

        def unplugged(mesh: MemoryMesh) -> None:
            mesh.network.unplug(mesh.address(0)[0], mesh.address(1)[0])

        def unsent(mesh: MemoryMesh) -> None:
            mesh.partition((0,), (1,), (2,))
            mesh.run(30)
            mesh.services[0].send("x" * 1_000_000)

        for what in (nothing, parted, killed, unplugged, unsent):
            mesh = MemoryMesh(3, seed=2)
            what(mesh)
            mesh.stop()
            self.assert_nothing_left(mesh)
            for node, service in enumerate(mesh.services):
                if (what, node) != (killed, 1):
                    self.assertEqual((service.running, service.footprint()), (0, {}))

    def test_what_was_sent_at_the_very_end_is_delivered(self) -> None:
        mesh = MemoryMesh(2)
        mesh.services[0].send("last words")
        mesh.stop()
        mesh.stop()
        self.assertEqual(self.got(mesh, 1), {0: ["last words"]})

    def test_the_end_of_a_block_is_one(self) -> None:
        with self.assertRaises(ZeroDivisionError), MemoryMesh(2) as mesh:
            self.assertEqual(len(mesh.services), 2)
            raise ZeroDivisionError
        self.assert_nothing_left(mesh)

    def test_a_node_that_does_not_stop_is_told(self) -> None:
        mesh = MemoryMesh(1)
        mesh.add(listen=[Stubborn(Deferred)])
        error = self.assertRaises(RuntimeError, mesh.stop)
        self.assertEqual(str(error), "nodes [1] did not stop within 16.0 s")

    def test_what_a_node_fails_to_stop_with_is_raised(self) -> None:
        mesh = MemoryMesh(1)
        mesh.add(listen=[Stubborn(lambda: fail(ZeroDivisionError()))])
        self.assertRaises(ZeroDivisionError, mesh.stop)

    def test_a_port_that_cannot_be_closed_keeps_no_other_from_it(self) -> None:
        mesh = MemoryMesh(1)
        slow = [Deferred[None](), Deferred[None]()]
        ports = [lambda: fail(ZeroDivisionError()), lambda: slow[0], lambda: slow[1]]
        mesh.add(listen=[Stubborn(stop) for stop in ports])
        for each in slow:
            mesh.clock.callLater(1.0, each.errback, ZeroDivisionError())
        stopping = mesh.services[1].stopService()
        mesh.run(0.5)
        self.assertNoResult(stopping)
        mesh.run(1.0)
        self.failureResultOf(stopping, ZeroDivisionError)  # the others' errors are handled, too
        mesh.stop()


class Heart:
    """An application: it sends a beat a second, and knows which nodes it has not heard for long."""

    def __init__(self, service: MeshService, clock: Any) -> None:
        self.service = service
        self.clock = clock
        self.heard: dict[bytes, float] = {}
        self.loop = LoopingCall(service.send, "beat")
        self.loop.clock = clock
        self.loop.start(1.0)
        service.on("message", self.on_message)

    def on_message(self, message: Any) -> None:
        self.heard[message.sender] = message.time

    def missing(self) -> list[bytes]:
        """The ids of nodes that were not heard for three seconds."""
        return [who for who, when in self.heard.items() if self.clock.seconds() - when > 3]


class TestApplication(MeshTests):
    def test_a_users_own_class(self) -> None:
        mesh = self.mesh(3)
        hearts = [Heart(service, mesh.clock) for service in mesh.services]
        for heart in hearts:
            self.addCleanup(heart.loop.stop)
        mesh.run(10)
        self.assertEqual([heart.missing() for heart in hearts], [[], [], []])
        self.assertEqual([len(mesh.received(node)) for node in range(3)], [22, 22, 22])
        mesh.partition((2,))
        mesh.run(10)
        lost = mesh.services[2].id
        self.assertEqual([heart.missing() for heart in hearts[:2]], [[lost], [lost]])
        self.assertEqual(len(hearts[2].missing()), 2)
        mesh.heal()
        mesh.run(1)
        self.assertEqual([heart.missing() for heart in hearts], [[], [], []])
        self.assertEqual([len(mesh.received(node)) for node in range(3)], [44, 44, 44])

    def test_what_its_timers_raise_is_raised_by_run(self) -> None:
        mesh = self.mesh(1)
        mesh.clock.callLater(1, lambda: 1 // 0)
        self.assertRaises(ZeroDivisionError, mesh.run, 2)

"""Calls from other threads when the reactor stops; test_mesh has the calls while it runs."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import logged
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import NotRunning
from twisted_mesh.testing import MemoryMesh
from twisted_mesh.threads.reactor_thread import ReactorThread, _inner_first

DEADLINE = 30


class StoppableReactor:
    """A reactor that does its work, and stops, when the test says so."""

    def __init__(self) -> None:
        self.running = True
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._triggers: dict[str, list[Callable[[], object]]] = {"before": [], "during": [], "after": []}

    def callFromThread(self, f: Callable[..., object], *args: Any) -> None:
        self._work.put(partial(f, *args))

    def addSystemEventTrigger(self, phase: str, event: str, f: Callable[[], object]) -> None:
        assert event == "shutdown"
        self._triggers[phase].append(f)

    def next_work(self) -> Callable[[], object]:
        """The next call that another thread has asked for; waits for it."""
        return self._work.get(timeout=DEADLINE)

    def fire(self, phase: str) -> list[Any]:
        """Fire the triggers of one phase of the shutdown; return their results."""
        triggers, self._triggers[phase] = self._triggers[phase], []
        return [trigger() for trigger in triggers]


class Caller(Thread):
    """A thread that makes one call."""

    def __init__(self, threads: ReactorThread, f: Callable[[], object]) -> None:
        super().__init__(daemon=True)  # else a call that does not end would keep the tests from ending
        self._threads, self._f = threads, f
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._threads.call(self._f)
        except Exception as error:
            self._error = error

    def error(self) -> Exception | None:
        """The error of the call; None if it succeeded, or still waits."""
        self.join(DEADLINE)
        return self._error


class ShutdownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = StoppableReactor()

    def threads(self) -> ReactorThread:
        """A ReactorThread that has registered for the reactor's shutdown."""
        threads = ReactorThread(self.reactor)
        self.addCleanup(atexit.unregister, threads._at_exit)
        self.reactor.next_work()()
        return threads

    def test_every_call_ends_before_the_thread_pool_waits_for_its_threads(self) -> None:
        threads = self.threads()
        answer: Deferred[None] = Deferred()
        begun = Caller(threads, lambda: answer)
        self.reactor.next_work()()
        not_begun = Caller(threads, lambda: None)
        self.reactor.next_work()
        (stopped,) = self.reactor.fire("before")  # in the next phase the pool waits for its threads
        self.successResultOf(stopped)
        after = Caller(threads, lambda: None)
        for caller in (begun, not_begun, after):
            self.assertIsInstance(caller.error(), NotRunning)

    def test_calls_go_on_until_the_services_have_stopped(self) -> None:
        threads = self.threads()
        with MemoryMesh(1) as mesh:
            threads.start(mesh.add(0, started=False), "MeshSocket")
            mesh.run()
            answer: Deferred[None] = Deferred()
            caller = Caller(threads, lambda: answer)
            self.reactor.next_work()()
            (stopped,) = self.reactor.fire("before")
            self.assertNoResult(stopped)
            answer.callback(None)
            self.assertIsNone(caller.error())
            self.assertFalse(caller.is_alive())
            mesh.run(5)
            self.successResultOf(stopped)

    def test_who_comes_while_the_reactor_stops_already_does_not_wait_for_ever(self) -> None:
        self.assertEqual(self.reactor.fire("before"), [])
        caller = Caller(self.threads(), lambda: None)
        self.reactor.next_work()
        self.reactor.fire("during")
        self.reactor.fire("after")
        self.assertIsInstance(caller.error(), NotRunning)


class StopInTurnTests(SynchronousTestCase):
    def test_who_is_linked_elsewhere_stops_after_those_who_need_it(self) -> None:
        with MemoryMesh(4, topology="chain") as mesh:
            nodes = mesh.services
            self.assertEqual(_inner_first([nodes[2], nodes[1], nodes[0]]), [nodes[0], nodes[1], nodes[2]])
            self.assertEqual(_inner_first([nodes[3], nodes[1]]), [nodes[1], nodes[3]])

    def test_none_dials_one_that_stops(self) -> None:
        threads = ReactorThread(StoppableReactor())
        self.addCleanup(atexit.unregister, threads._at_exit)
        with MemoryMesh(2) as mesh, logged() as texts:
            threads._services.update(dict.fromkeys(mesh.services))
            dials, stops = mesh.services
            dials.connect(*stops.addresses[0])  # so that it is dialled again when the link is lost
            mesh.run()
            gone: Deferred[None] = Deferred()
            stops._run.connections.all_gone = lambda: gone  # type: ignore
            stopped = threads._stop_all()
            mesh.run(30)
            self.assertEqual((dials.running, dict(dials.routing_table)), (1, {}))
            gone.callback(None)
            mesh.run(5)
            self.successResultOf(stopped)
        self.assertEqual([text for text in texts if "cannot link" in text], [])

    def test_the_exit_gives_each_its_own_time(self) -> None:
        reactor = StoppableReactor()
        threads = ReactorThread(reactor)  # its reactor runs, and does nothing
        self.addCleanup(atexit.unregister, threads._at_exit)
        brief = MeshConfig(handover_timeout=0.15, farewell_timeout=0.01, close_timeout=0.1)
        with MemoryMesh(2, config=brief) as mesh:
            for node in mesh.services:
                threads._services[node] = None
            begun = monotonic()
            ending = Thread(target=threads._at_exit, daemon=True)
            ending.start()
            ending.join(DEADLINE)
            self.assertFalse(ending.is_alive())
            self.assertGreaterEqual(monotonic() - begun, 0.5)

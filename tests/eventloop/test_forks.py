"""The parts of a node that a forked process must not keep, as far as one process can show it."""

from __future__ import annotations

import gc
import socket

from tests.support.meshcase import MeshCase
from twisted_mesh.errors import NotRunning
from twisted_mesh.eventloop import forks


class Around:
    """A transport around another."""

    def __init__(self, transport: object) -> None:
        self.transport = transport


class Connected:
    """A transport with a socket."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket


class Opened:
    """A thing that a fork must close, and whose close fails; :ivar closed: the number of calls."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Fail."""
        self.closed += 1
        raise ZeroDivisionError


class TestForked(MeshCase):
    def test_a_socket_is_found_below_what_is_around_it_and_closed_without_a_word(self) -> None:
        ours, theirs = socket.socketpair()
        copy = ours.dup()
        self.addCleanup(theirs.close)
        self.addCleanup(copy.close)
        forks.close_socket(Around(Around(Connected(ours))))
        self.assertEqual(ours.fileno(), -1)
        theirs.setblocking(False)
        self.assertRaises(BlockingIOError, theirs.recv, 1)  # the parent still has its copy

    def test_what_has_no_socket_is_let_be(self) -> None:
        forks.close_socket(Around(object()))

    def test_all_are_closed_once_whatever_fails_and_none_that_was_closed_before(self) -> None:
        self.patch(forks, "_open", set())
        kept = [Opened() for _ in range(3)]
        for each in (*kept, Opened()):  # no reference to the last one is left
            forks.close_in_forks(each.close)
        del each
        gc.collect()
        self.assertEqual(len(forks._open), 3)
        forks.closed(kept[1].close)
        self.assertRaises(ZeroDivisionError, forks._in_child)
        forks._in_child()
        self.assertEqual([each.closed for each in kept], [1, 0, 1])

    def test_all_are_closed_though_objects_are_freed_meanwhile(self) -> None:
        kept = [Opened() for _ in range(3)]

        class Freeing:
            """A reference; as it is looked at, the garbage collector frees other objects."""

            def __init__(self, opened: Opened) -> None:
                self.opened = opened

            def __call__(self) -> object:
                for other in list(forks._open):
                    if other is not self:
                        forks._open.discard(other)
                return self.opened.close

        self.patch(forks, "_open", set(map(Freeing, kept)))
        self.assertRaises(ZeroDivisionError, forks._in_child)
        self.assertEqual([each.closed for each in kept], [1, 1, 1])

    def test_a_service_that_has_stopped_is_not_registered(self) -> None:
        before = len(forks._open)
        service = self.node()
        self.assertEqual(len(forks._open), before + 1)
        self.stop(service)
        self.assertEqual(len(forks._open), before)

    def test_what_was_a_node_before_the_fork_does_not_run(self) -> None:
        service, other = self.chain(2)
        run = service._run
        self.patch(forks, "_open", set())
        forks.close_in_forks(service._close_in_fork)
        forks._in_child()
        self.assertRaises(NotRunning, service.send, "x")
        service._run = run  # there was no fork
        self.send(service, "y")
        self.assertEqual(self.got(other), ["y"])

"""The reactor of this process, for code in other threads.

Contract: only this module starts a thread for the reactor, and only here a thread blocks.  If the reactor
runs already, it is used and never stopped.  If not, it is started in a daemon thread, and runs until the
process ends.  Before the reactor or the process ends, the services on it are stopped, within the time
limits of their config: so a script need not wait for its last message.
"""

from __future__ import annotations

import atexit
import errno
import os
import time
from collections.abc import Callable
from threading import Event, Lock, RLock, Thread
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError, ReactorAlreadyRunning
from twisted.logger import Logger
from twisted.python.threadable import isInIOThread

from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import ListenFailed, MeshError, NotRunning
from twisted_mesh.eventloop.clock import make_monotonic
from twisted_mesh.eventloop.deferreds import wait_for
from twisted_mesh.service import MeshService

_log = Logger()
_lock = Lock()
_of_this_process: list[ReactorThread] = []


def reactor_thread() -> ReactorThread:
    """The ReactorThread of this process; the first call makes it, and starts its reactor.

    :raises RuntimeError: the reactor cannot run, because it ran before and was stopped.
    """
    if not _of_this_process:  # read without the lock, which a fork can have left locked for ever
        with _lock:
            if not _of_this_process:
                from twisted.internet import reactor

                _of_this_process.append(ReactorThread(reactor))
    return _of_this_process[0]


class ReactorThread:
    """Runs services in the reactor's thread, and carries calls of other threads there."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._process = os.getpid()
        self._lock = RLock()  # a signal handler can call in the middle of a call
        self._ended = False
        self._calls: set[Call] = set()  # calls that have not ended
        #: With the name of the class that the application uses, in the order in which they were started.
        self._services: dict[MeshService, str] = {}
        self._thread = None if self.reactor.running else self._started()
        self.reactor.callFromThread(self._watch)
        atexit.register(self._at_exit)

    # ── calls ───────────────────────────────────────────────────────────────────────

    @property
    def is_here(self) -> bool:
        """Whether the caller is in the reactor's thread, and not in a process that was forked from it."""
        return bool(isInIOThread()) and self._process == os.getpid()

    def call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *f* in the reactor's thread, and return its result.

        If the caller is in that thread, *f* is called at once, and a Deferred is returned as it is.  In any
        other thread, the caller waits for the Deferred's result.

        :raises NotRunning: the reactor has ended, or belongs to another process.
        """
        if self.is_here:
            return f(*args, **kwargs)
        return self._begun(lambda: f(*args, **kwargs)).wait()

    def wait(self, f: Callable[..., Any], *args: Any) -> Any:
        """As :meth:`call`, for a caller that needs the result itself, not a Deferred.

        :raises RuntimeError: the caller is in the reactor's thread, which would wait for itself.
        """
        if self.is_here:
            raise RuntimeError("this would wait in the reactor's own thread, for ever: use MeshService")
        return self._begun(lambda: f(*args)).wait()

    def later(self, f: Callable[..., object], *args: Any) -> None:
        """Call *f* in the reactor's thread after all earlier calls; do not wait for its result."""
        if self._process == os.getpid():
            self.reactor.callFromThread(f, *args)

    def admit(self, call: Call) -> None:
        """Let *call* fail if the reactor ends first; its ``begin`` is to be called in the reactor's thread.

        :raises NotRunning: the reactor has ended, or belongs to another process.
        """
        self.check_process()  # before the lock is taken: a fork can have left it locked
        call.over = self._calls.discard
        with self._lock:
            if self._ended or not self.reactor.running:
                raise NotRunning("the reactor of this process was stopped, and cannot run again")
            self._calls.add(call)

    def check_process(self) -> None:
        """:raises NotRunning: this process was forked from the one in which the reactor runs."""
        if self._process != os.getpid():
            raise NotRunning(
                "a forked process has no reactor: fork before the first MeshSocket or Mesh, or spawn"
            )

    def _begun(self, f: Callable[[], Any]) -> _BlockingCall:
        call = _BlockingCall(f, self.reactor)
        self.admit(call)
        self.reactor.callFromThread(call.begin)
        return call

    # ── services ────────────────────────────────────────────────────────────────────

    def start(self, service: MeshService, class_name: str) -> None:
        """Start *service*; call this in the reactor's thread.

        :param class_name: the name of the class that the application uses instead of the service.
        :raises ListenFailed: the service cannot listen, and was not started.
        """
        try:
            service.startService()
        except CannotListenError as error:
            raise self._listen_failed(error) from None
        self._services[service] = class_name

    def stop(self, service: MeshService) -> Deferred[None]:
        """Stop *service*; call this in the reactor's thread.

        The service stops even if the Deferred is cancelled.
        """
        return wait_for(self._stop(service))

    async def _stop(self, service: MeshService) -> None:
        try:
            await service.stopService()
        finally:
            self._services.pop(service, None)

    def _listen_failed(self, error: CannotListenError) -> ListenFailed:
        reason: OSError = error.socketError
        by = (
            class_name
            for service, class_name in self._services.items()
            if any(port == error.port for _, port in service.addresses)
        )
        if reason.errno == errno.EADDRINUSE and (class_name := next(by, None)) is not None:
            text = f"port {error.port} is taken by another {class_name} of this process: close() it first"
        else:
            where = f" of {error.interface}" if error.interface else ""
            text = f"cannot listen on port {error.port}{where}: {reason.strerror}"
        return ListenFailed(reason.errno, text)

    # ── from start to end ───────────────────────────────────────────────────────────

    def _started(self) -> Thread:
        """Run the reactor in a new thread.

        :raises RuntimeError: the reactor cannot run.
        """
        running = Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.reactor.callWhenRunning(running.set)
                self.reactor.run(installSignalHandlers=False)
            except BaseException as error:
                if running.is_set():
                    raise
                failures.append(error)
            finally:
                self._end()
                running.set()

        make_monotonic(self.reactor)
        # Threads that the reactor starts are daemons like this thread, so none of them delays the exit.
        thread = Thread(target=run, name="twisted_mesh reactor", daemon=True)
        thread.start()
        running.wait()
        if failures:
            raise RuntimeError("the reactor of this process cannot run: was it stopped?") from failures[0]
        self.reactor.run = _runs_already
        return thread

    def _watch(self) -> None:
        # "before", since the thread pool ends "during" shutdown, and waits for threads that call a socket.
        self.reactor.addSystemEventTrigger("before", "shutdown", self._stop_for_good)
        # If the first socket is made while the reactor stops, the "before" triggers have begun already, and
        # the reactor calls no new one.
        self.reactor.addSystemEventTrigger("after", "shutdown", self._end)

    def _stop_for_good(self) -> Deferred[None]:
        return self._stop_all().addBoth(lambda _: self._end())

    def _stop_all(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop_in_turn())

    async def _stop_in_turn(self) -> None:
        services = list(self._services)
        for service in services:
            for other in services:
                # Else services that stop later would dial this service again and again, and log that.
                if other is not service and other.running:
                    other.leave_alone(service.id)
        # All services hand over while all still run: a service that stops takes its links away.
        given = [Deferred.fromCoroutine(service._give_all()) for service in services]
        await DeferredList(given, consumeErrors=True)
        for service in _inner_first(services):
            await self.stop(service).addErrback(lambda why: _log.failure("a socket did not stop", why))

    def _end(self) -> None:
        """Fail all calls that wait for the reactor, which has ended."""
        with self._lock:
            self._ended = True
            calls = list(self._calls)
        for call in calls:
            call.fail(NotRunning("the reactor was stopped meanwhile"))

    def _at_exit(self) -> None:
        """Before the interpreter ends, stop all services, and the reactor if it was started here."""
        if self._ended or self._process != os.getpid() or self.is_here or not self.reactor.running:
            return
        configs = [service.config for service in list(self._services)] or [MeshConfig()]
        until = time.monotonic() + sum(each.longest_stop for each in configs)
        try:
            self._begun(self._stop_all).wait(until - time.monotonic())
            if self._thread is not None:
                # A thread that writes while the interpreter closes its streams would abort the process.
                self.reactor.callFromThread(self.reactor.crash)
                self._thread.join(until - time.monotonic())
        except (TimeoutError, NotRunning):
            _log.warn("the reactor does not answer: messages that were not sent yet are lost")
        except KeyboardInterrupt:
            pass  # the user does not wait for the last messages


class Call:
    """One call of a function in the reactor's thread, for code outside it.

    :ivar over: is called when the call has ended, or nobody waits for it any more.
    """

    over: Callable[[Call], None]

    def __init__(self, f: Callable[[], Any]) -> None:
        self._f = f
        self._deferred: Deferred[Any] | None = None
        self._has_ended = False

    def begin(self) -> None:
        """Call the function; this runs in the reactor's thread."""
        try:
            result = self._f()
        except BaseException as error:
            self.fail(error)
            return
        if isinstance(result, Deferred):
            self._deferred = result
            result.addCallbacks(self._end, lambda failure: self.fail(failure.value))
        else:
            self._end(result)

    def fail(self, error: BaseException) -> None:
        """End the call with *error*."""
        if isinstance(error, MeshError):
            # The error's text is enough for the user, and names the cause.  At the prompt the traceback
            # would add forty lines of the reactor, and the cause would be shown as an error of its own.
            error.__traceback__ = error.__cause__ = None
        self._end(None, error)

    def cancel(self) -> None:
        """Cancel the Deferred that the function returned, if it did; call this in the reactor's thread."""
        if self._deferred is not None:
            self._deferred.cancel()

    def _end(self, result: Any, error: BaseException | None = None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self.over(self)
            self._ended(result, error)

    def _ended(self, result: Any, error: BaseException | None) -> None:
        """Give *result*, or *error* if there is one, to the caller; this runs in any thread."""
        raise NotImplementedError


class _BlockingCall(Call):
    """A call for whose result another thread waits."""

    def __init__(self, f: Callable[[], Any], reactor: Any) -> None:
        super().__init__(f)
        self._reactor = reactor
        # A Lock: Event.wait() has several steps, and raises RuntimeError if a signal comes between two.
        self._running = Lock()
        self._running.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the result, at most *timeout* seconds; an interrupt cancels the call.

        :raises TimeoutError: the time is over; the call is cancelled.
        """
        try:
            if not self._running.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                raise TimeoutError
        except BaseException:
            self._reactor.callFromThread(self.cancel)
            self.over(self)
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # the error's traceback would keep the caller's variables alive
        return self._result

    def _ended(self, result: Any, error: BaseException | None) -> None:
        self._result, self._error = result, error
        self._running.release()


def _inner_first(services: list[MeshService]) -> list[MeshService]:
    """Sort *services* into the order in which to stop them, one after the other.

    The last messages of one service may have to pass through another service of this process, which must
    still run then.  So services with neighbours in other processes come last; before them come their own
    neighbours, and so on.  Among equals, the service that was made last comes first.
    """
    ids = {service.id for service in services}
    group = [service for service in services if not service.routing_table.keys() <= ids]
    groups: list[list[MeshService]] = []
    while group:
        groups.insert(0, group)
        services = [service for service in services if service not in group]
        group = [each for each in services if any(outer.id in each.routing_table for outer in group)]
    return [each for group in (services, *groups) for each in reversed(group)]


def _runs_already(*_: object, **__: object) -> NoReturn:
    raise ReactorAlreadyRunning(
        "a MeshSocket runs the reactor in a thread of its own; if the application runs the reactor, "
        "use MeshService, or make the MeshSocket in a thread once the reactor runs"
    )

"""An asyncio program with a node in it: each second it sends its load to all nodes. In two terminals::

    python asyncio_program.py 4444
    python asyncio_program.py 4445 127.0.0.1:4444

Coroutines of asyncio await Deferreds with ``asFuture``; those of Twisted await tasks with ``fromFuture``.
"""

import asyncio
import os
import sys

from twisted.internet import asyncioreactor, task
from twisted.internet.defer import Deferred

from twisted_mesh import MeshService

loop = asyncio.new_event_loop()
asyncioreactor.install(loop)  # before any import of twisted.internet.reactor


async def show(message):
    """A coroutine of asyncio, as in code that does not use Twisted."""
    match message.packets[1:]:
        case ["load", str(who), float(load)]:
            await asyncio.to_thread(print, f"{who!r} has a load of {load}", flush=True)


async def receive(service):
    """A coroutine of Twisted: shows each message until the service stops."""
    async for message in service.messages():
        await Deferred.fromFuture(loop.create_task(show(message)))


async def program(reactor, port, *peers):
    """A coroutine of asyncio: runs until it is cancelled."""
    service = MeshService(reactor, listen=[f"tcp:{port}:interface=127.0.0.1"], peers=peers)
    service.startService()
    await service.ready().asFuture(loop)
    print("listens on port", service.addresses[0][1], flush=True)
    receiving = Deferred.fromCoroutine(receive(service))
    try:
        while True:
            service.send("load", f"process {os.getpid()}", os.getloadavg()[0])
            await asyncio.sleep(1)
    finally:
        await service.stopService().asFuture(loop)
        await receiving.asFuture(loop)


def main(reactor, *arguments):
    running = loop.create_task(program(reactor, *arguments))
    done = Deferred.fromFuture(running)
    done.addErrback(lambda failure: failure.trap(asyncio.CancelledError))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: running.cancel() and done)  # Ctrl-C
    return done


task.react(main, sys.argv[1:])

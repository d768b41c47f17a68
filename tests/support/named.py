"""A reactor for the network in memory, which looks names up in a table."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IDelayedCall,
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from zope.interface import implementer

from twisted_mesh.memory.network import MemoryNetwork


@implementer(IHostnameResolver)
class Table:
    """Names and their addresses.

    :ivar names: by name; None where no name server answers.
    :ivar asked: every name that was asked for, in order.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str] | None] = {}
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        self.asked.append(hostName)
        addresses = self.names.get(hostName, [])
        receiver.resolutionBegan(self)
        if addresses is not None:
            for address in addresses:
                receiver.addressResolved(IPv4Address("TCP", address, portNumber))
            receiver.resolutionComplete()
        return self


class _Connector:
    def __init__(self, dialled: Any) -> None:
        self._dialled = dialled

    def stopConnecting(self) -> None:
        self._dialled.cancel()


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class NamedReactor:
    """The reactor of a node on the host *source*."""

    def __init__(self, network: MemoryNetwork, source: str, table: Table) -> None:
        self._network, self._source = network, source
        self.nameResolver = table

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError

    def listenTCP(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        dialled = self._network.dial_from(self._source)(host, port).connect(factory)
        connector = _Connector(dialled)
        factory.startedConnecting(connector)
        dialled.addErrback(lambda failure: factory.clientConnectionFailed(connector, failure))
        return connector

    def seconds(self) -> float:
        return self._network.clock.seconds()

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> IDelayedCall:
        return self._network.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Any:
        return self._network.clock.getDelayedCalls()

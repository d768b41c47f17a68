"""The short way of a message to the only listener, and the way through all that can get messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from twisted_mesh import MeshService, Message, MessageQueue, NamedMessages
from twisted_mesh.core.events import Deliver
from twisted_mesh.message import NoWayBack, Source

AUTHOR = b"a" * 32
SOURCE = Source((AUTHOR, 1), b"author", 5.0, NoWayBack())

#: What an application can do while a message is handed to it.
ACTIONS = ("raise", "fail later", "listen", "once", "leave", "leave all", "handle", "queue", "name")

#: The kind of an entry, its type, and what the application does at this message.
messages = st.tuples(
    st.sampled_from([0, 0, 0, 64, 9]), st.sampled_from([0, 0x30]), st.sampled_from(["", *ACTIONS])
)
batches = st.tuples(st.booleans(), st.lists(messages, min_size=1, max_size=8))


class Told(Exception):
    """An error that a listener raises on purpose."""


class Application:
    """An application that gets messages, and does what the second packet of each says.

    :param asks: whether it has a handler that takes no message, so that no message goes the short way.
    :ivar seen: all that it got, in order.
    """

    def __init__(self, *, asks: bool) -> None:
        self.seen: list[object] = []
        self.service = MeshService(Clock(), listen=(), encryption="Plaintext")
        if asks:
            self.service.register_handler(lambda message, link: None)
        self._queues: list[MessageQueue] = []
        self._named: list[NamedMessages] = []
        self.service.on("message", self.first)
        self.service.on("failure", lambda failure: self.seen.append(repr(failure.value)))
        self.service.startService()

    def first(self, message: Message) -> object:
        """The first listener."""
        self.note("first", message)
        return self._act(message.packets[2])

    def note(self, who: str, message: Message) -> None:
        self.seen.append((who, message.id, message.number, message.packets))

    def _act(self, action: str) -> object:
        service = self.service
        match action:
            case "raise":
                raise Told("now")
            case "fail later":
                return self._fail()
            case "listen":
                service.on("message", lambda message: self.note("another", message))
            case "once":
                service.once("message", lambda message: self.note("once", message))
            case "leave" if self.first in service.listeners("message"):
                service.remove_listener("message", self.first)
            case "leave all":
                service.remove_all_listeners("message")
            case "handle":
                service.register_handler(lambda message, link: message.type == 0x30)
            case "queue":
                self._queues.append(service.messages())
            case "name" if not service.consumers:
                self._named.append(service.messages(name="billing"))
        return None

    async def _fail(self) -> None:
        raise Told("later")

    def result(self) -> tuple[object, ...]:
        """What it saw, what waits for its queues, and what nobody got; the service ends."""
        service = self.service
        waiting = [message.packets for queue in self._queues for message in queue.peek()]
        lags = {name: consumer.lag for name, consumer in service.consumers.items()}
        footprint = service._delivery.footprint()
        service.stopService()
        return self.seen, waiting, lags, footprint


class TestStraightDelivery(SynchronousTestCase):
    @fixed
    @given(st.lists(batches, max_size=3))
    def test_both_ways_hand_over_the_same_however_listeners_come_and_go(
        self, drawn: list[tuple[bool, list[tuple[int, int, str]]]]
    ) -> None:
        results = []
        for asks in (False, True):
            application = Application(asks=asks)
            number = 1
            for is_numbered, some in drawn:
                entries = [[kind, type_, place, action] for place, (kind, type_, action) in enumerate(some)]
                deliver = Deliver(1, AUTHOR, 1, number if is_numbered else 0, 5, 100, entries)
                application.service._delivery.deliver(deliver, SOURCE, None)
                number += len(some)
            results.append(application.result())
        self.flushLoggedErrors(Told)
        self.assertEqual(*results)

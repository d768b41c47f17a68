"""The short way of a message to the only listener, and the way through all that can get messages."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from twisted_mesh import MeshConfig, MeshService, Message, MessageQueue, NamedMessages
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


#: The name of a consumer, and how many messages it takes at most; or "close" and "open" of the named one.
take = st.tuples(st.sampled_from(["", "billing", "close", "open"]), st.integers(0, 6))
takes = st.lists(take, max_size=3)


class Consumers:
    """An application with an iterator, and one with a name, each with room for six messages of 600 bytes.

    :param asks: as of :class:`Application`.
    :ivar seen: all that it got, in order.
    """

    def __init__(self, *, asks: bool) -> None:
        self.seen: list[object] = []
        config = MeshConfig(queue_limit=6, queue_bytes=600)
        self.service = MeshService(Clock(), listen=(), encryption="Plaintext", config=config)
        if asks:
            self.service.register_handler(lambda message, link: None)
        self.service.on("gap", lambda gap: self.seen.append(("gap", gap.ranges, gap.reason)))
        self.service.startService()
        self._unnamed, self._named = self.service.messages(), self.service.messages(name="billing")

    def take(self, name: str, most: int) -> None:
        """Let a consumer take messages, or be closed or opened."""
        if name == "close":
            self._named.close()
        elif name == "open" and not self.service.consumers["billing"].open:
            self._named = self.service.messages(name="billing")
        elif name != "open":
            consumer = self._named if name else self._unnamed
            taken = [consumer.take() for _ in range(most)]
            self.seen.append((name, [message and message.id for message in taken]))

    def result(self) -> tuple[object, ...]:
        """What it saw until now, what waits, and what was taken; the service ends."""
        delivery, run = self.service._delivery, SOURCE.run
        seen = list(self.seen)
        waiting = [[message.id for message in queue.peek()] for queue in delivery._live()]
        places = delivery.taken(run, 100), delivery.places(run, 100)
        footprint = delivery.footprint()
        self.service.stopService()
        return seen, waiting, places, footprint


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

    @fixed
    @given(st.lists(st.tuples(st.lists(st.sampled_from([0, 0, 0, 64, 9]), max_size=5), takes), max_size=8))
    @example([([0], [("billing", 2), ("close", 0)]), ([0, 0], [])])
    def test_queues_get_the_same_whether_a_batch_comes_whole_or_message_by_message(
        self, drawn: list[tuple[list[int], list[tuple[str, int]]]]
    ) -> None:
        results = []
        for asks in (False, True):
            application = Consumers(asks=asks)
            number = 1
            for kinds, some in drawn:
                entries = [[kind, 0, place] for place, kind in enumerate(kinds)]
                deliver = Deliver(1, AUTHOR, 1, number, 5, 100 * len(kinds), entries)
                application.service._delivery.deliver(deliver, SOURCE, None)
                for name, most in some:
                    application.take(name, most)
                number += len(kinds)
            results.append(application.result())
        self.assertEqual(*results)

"""Named consumers that are read as streams of events, so that any language has them by HTTP alone.

Contract: a consumer has one reader at a time.  A message is taken when the client acknowledges it, by
``POST /ack`` or by ``Last-Event-ID`` of its next request; never because its bytes were written.  So a
client that dies between the two gets the message again.  If a client reads too slowly, or acknowledges too
little, no more is written until it goes on; nothing is dropped meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.web import http
from twisted.web.server import Request

from twisted_mesh.admin.bodies import Ack, Reader, arguments_of, count_of
from twisted_mesh.admin.site import Refused
from twisted_mesh.admin.streams import SentEvents, data_of
from twisted_mesh.delivery.in_flight import MOST, InFlight
from twisted_mesh.delivery.named import Key, key_of
from twisted_mesh.errors import ConsumerInUse, Unreachable
from twisted_mesh.service import MeshService

_ACK: Final = Reader(Ack, '{"consumer": "name", "id": "of the last message that is done"}')
_ID: Final = re.compile(r"(?a:([0-9A-Za-z]{1,128})/(\d{1,19})/(-?[1-9]\d{0,18}))")
_ARGUMENTS: Final = ("consumer", "start", "count")


class ConsumerStream(SentEvents):
    """One reader's stream of the messages of a consumer.

    :ivar consumer: hands out the messages; None until :meth:`follow`.
    """

    def __init__(
        self,
        request: Request,
        clock: IReactorTime,
        count: int | None,
        label_of: Callable[[bytes], str | None],
    ) -> None:
        """
        :param count: the stream ends after so many messages; None if it has no end.
        :param label_of: gives the label of a node, by its id.
        """
        super().__init__(request, clock)
        self._label_of = label_of
        self.consumer: InFlight | None = None
        self._count = count
        self._writing = False
        self._is_told = False  # whether the reader was told that it has to acknowledge

    def follow(self, consumer: InFlight) -> None:
        """Write the messages of *consumer*, which is closed when the request ends."""
        self.consumer = consumer
        self._request.notifyFinish().addBoth(lambda _: consumer.close())
        self.begin(b"messages of a consumer, until they are acknowledged")

    def _beat(self) -> None:
        super()._beat()
        self.write_on()  # a gap may be known, and no message come

    def write_on(self) -> None:
        consumer = self.consumer
        if consumer is None or self._writing:  # the consumer can call this while it hands out a message
            return
        self._writing = True
        while not self._paused and self._count != 0:
            message = consumer.next()
            for gap in consumer.gaps():
                self._event("gap", data_of(gap, self._label_of))
            if message is None:
                break
            key = key_of(message)
            self._event("message", data_of(message, self._label_of), None if key is None else as_id(key))
            self._count = None if self._count is None else self._count - 1
        self._writing = False
        if self._count == 0 or consumer.has_ended:
            self.end()
        elif consumer.is_full and not self._paused and not self._is_told:
            self._request.write(b": %d messages wait to be acknowledged\n\n" % len(consumer))
        self._is_told = consumer.is_full


class Consuming:
    """The named consumers of one node that clients read."""

    def __init__(self, clock: IReactorTime, node: MeshService) -> None:
        self._clock = clock
        self._node = node
        self._streams: dict[str, ConsumerStream] = {}

    def __len__(self) -> int:
        """How many readers there are."""
        return len(self._streams)

    def begin(self, request: Request) -> None:
        """Begin a stream of the consumer that *request* names.

        :raises Refused: the request is wrong, or the consumer is open.  Other errors are those of
            ``MeshService.messages()``.
        """
        arguments = arguments_of(request, _ARGUMENTS)
        name, start = arguments["consumer"], _start(arguments.get("start", "new"))
        count = arguments.get("count")
        most = None if count is None else count_of(count, MOST)
        stream = ConsumerStream(request, self._clock, most, self._node._label_of)
        last_id = request.getHeader("last-event-id")
        if last_id:
            self._check(name)
        consumer = self._opened(name, stream.write_on, start)
        try:
            if last_id:
                self._take(consumer, last_id)
        except Refused:
            consumer.close()
            raise
        self._streams[name] = stream
        request.notifyFinish().addBoth(lambda _: self._streams.pop(name))
        stream.follow(consumer)

    def acknowledge(self, body: bytes) -> Any:
        """Count messages as taken; return how many the consumer has not taken."""
        ack: Ack = _ACK.read(body)
        name = ack.consumer
        if (stream := self._streams.get(name)) is not None and stream.consumer is not None:
            self._take(stream.consumer, ack.id)
            stream.write_on()
        else:
            self._check(name)
            consumer = self._opened(name, lambda: None)
            try:
                self._take(consumer, ack.id)
            finally:
                consumer.close()
        return {"consumer": name, "lag": self._node.consumers[name].lag}

    def footprint(self) -> dict[str, int]:
        """How many readers there are."""
        return {"control_consumers": len(self._streams)}

    def _opened(self, name: str, ready: Callable[[], None], start: str | float = "new") -> InFlight:
        try:
            return self._node.hand_out(name, ready, start)
        except ConsumerInUse:
            told = f"the consumer {name!r} is open already: its reader has to end first"
            raise Refused(http.CONFLICT, told) from None

    def _check(self, name: str) -> None:
        """:raises Refused: there is no such consumer."""
        if name not in self._node.consumers:
            told = f"there is no consumer {name!r}; GET /messages without Last-Event-ID begins it"
            raise Refused(http.NOT_FOUND, told)

    def _take(self, consumer: InFlight, id: str) -> None:
        """Count the message with that *id* as taken, and those before it.

        :raises Refused: that is no id, or the consumer was not given the message.
        """
        if (matched := _ID.fullmatch(id)) is None:
            raise Refused(http.BAD_REQUEST, "the id of a message is AUTHOR/EPOCH/NUMBER, as in its event")
        author, epoch, number = matched.groups()
        key = author.encode(), int(epoch), int(number)
        if not consumer.acknowledge(key) and not (consumer.has_taken(key) and self._has_come(key)):
            raise Refused(http.NOT_FOUND, f"the consumer was given no message {id}")

    def _has_come(self, key: Key) -> bool:
        """Whether the message has come to this node, as far as is known."""
        author, epoch, number = key
        try:
            _, runs = self._node.runs_of(author)
        except Unreachable:
            return False
        return number < 0 or any(run == epoch and number <= head for run, head, _ in runs)


def as_id(key: Key) -> str:
    """The id of a message in a stream."""
    author, epoch, number = key
    return f"{author.decode()}/{epoch}/{number}"


def _start(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text

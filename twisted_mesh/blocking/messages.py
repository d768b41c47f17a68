"""The iterator that MeshSocket.messages() returns: it blocks until a message comes.

Contract: as :class:`~twisted_mesh.delivery.named.NamedMessages`.  Messages cross from the reactor's thread
in batches.  If the caller is interrupted while it waits, no message is lost.
"""

from __future__ import annotations

from collections import deque
from typing import Self
from weakref import WeakMethod

from twisted.internet.defer import Deferred

from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.message import Message
from twisted_mesh.threads.batches import NamedBatches
from twisted_mesh.threads.hosted_node import HostedNode
from twisted_mesh.threads.proxies import with_replies
from twisted_mesh.threads.reactor_thread import ReactorThread


class NamedMessages:
    """The messages of a named consumer: ``for message in socket.messages(name="billing")``.

    A message counts as taken when the next one is asked for.  If the loop ends before that, by ``break`` or
    an exception, the next iterator of that name begins with that message again.  Use it in one thread at a
    time, which is not the reactor's.
    """

    def __init__(self, thread: ReactorThread, name: str) -> None:
        self._thread = thread
        self._name = name
        self._batches: NamedBatches
        self._come: deque[Message] = deque()
        self._arrivals = WaitingDeferreds[None]()  # fire when messages come, or the end
        self._asked = False  # whether a batch was asked for, and none has come yet
        self._ended = False
        self._given: Message | None = None  # handed out and not taken
        self._taken = 0
        self._telling = False  # whether the node will be told that number

    def open(self, node: HostedNode, start: str | float) -> Self:
        """Open the consumer; this runs in the reactor's thread."""
        came = WeakMethod(self._came)  # so that this iterator is freed if the application drops it

        def give(batch: list[Message], has_ended: bool) -> None:
            if (call := came()) is not None:
                call(batch, has_ended)

        self._batches = node.named_batches(self._name, start, give)
        return self

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    def __iter__(self) -> Self:
        if self._given is not None and not self._ended:
            self._come.appendleft(self._given)
        self._given = None
        return self

    def __next__(self) -> Message:
        """The next message; wait until one comes.

        :raises RuntimeError: in the reactor's thread.
        """
        self.commit()
        while True:
            try:
                message = self._come.popleft()
            except IndexError:
                if self._ended:
                    raise StopIteration from None
                self._thread.wait(self._more)
            else:
                self._given = message
                return with_replies(self._thread, message)

    def commit(self) -> None:
        """Count the message that was handed out last as taken now, as before ``break``."""
        if self._given is not None:
            self._given = None
            self._taken += 1
            if not self._telling:
                self._telling = True
                self._thread.later(self._tell)

    def close(self) -> None:
        """Let others open the consumer; a message that was handed out and is not taken is given again."""
        self._ended = True
        self._given = None
        self._come.clear()
        self._thread.later(self._batches.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── in the reactor's thread ─────────────────────────────────────────────────────

    def _more(self) -> Deferred[None] | None:
        """Ask for a batch, if none was asked for; fires when one has come."""
        if not self._asked:
            self._asked = True
            self._batches.want()
        return None if self._come or self._ended else self._arrivals.wait()

    def _came(self, batch: list[Message], has_ended: bool) -> None:
        self._asked = False
        if has_ended:
            self._ended = True
            self._come.clear()  # they are given after the next start
        self._come.extend(batch)
        self._arrivals.happened(None)

    def _tell(self) -> None:
        self._telling = False  # before the number is read: a message that comes later is told again
        self._batches.taken_up_to(self._taken)

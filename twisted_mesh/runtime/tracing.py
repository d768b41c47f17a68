"""What people ask of all nodes at once: by which way a message came, and who is linked with whom.

Contract: this node answers for itself; members that are up are asked.  A node that has not answered in time
is in the result all the same, and so is one that is down, or whose grant lets it only listen.  Of the nodes
that an answer names, those count that this node knows; others are left out as the answer comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.delivery.direct import PendingDirects
from twisted_mesh.delivery.members import Members
from twisted_mesh.delivery.traces import Traces
from twisted_mesh.errors import Unreachable
from twisted_mesh.identity import ORIGIN_BYTES, id_of
from twisted_mesh.message import MessageId
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.runtime.reporting import Reporting
from twisted_mesh.trace import Neighbours, Step, Trace
from twisted_mesh.wire.tracing import Asked, LinksAnswer, LinksQuestion, Told, WayAnswer, WayQuestion

NAMED: Final = 65_536  # nodes that all answers to a question may name together (guess: 0.5 MiB) ...
NAMED_EACH: Final = 32  # ... but each answer so many: a node has about 10 links (guess)
Names = Mapping[bytes, str]  # ids, by origin
_THERE: Final = {"up", "suspect"}
_UNHEARD: Final[Mapping[str | None, str]] = {"up": "silent", "suspect": "silent", "listens": "listens"}


class _Heard(NamedTuple):
    """The answer of a node; without one, *state* is "silent", "listens" or "down"."""

    id: bytes
    label: str | None
    state: str
    answer: Told | None


class Tracing:
    """Asks the nodes of the mesh for one run of a service.

    :ivar traces: the questions that are open.
    """

    def __init__(
        self, driver: Driver, members: Members, reporting: Reporting, directs: PendingDirects
    ) -> None:
        self._driver = driver
        self._members = members
        self._reporting = reporting
        self.traces = Traces(driver.clock, directs, self._run, reporting.answer)

    async def trace(self, id: MessageId, seconds: float) -> Trace:
        """By which way the message *id* came; the id may have the author's id in place of its origin."""
        author, epoch, sequence = id
        if (origin := self._origin(author)) is None:
            raise Unreachable(f"{author.decode('ascii', 'replace')}: no member with that id is known here")
        step, names = self._reporting.step, self._names(origin)
        steps = [
            step(heard.id, heard.answer, names)
            if isinstance(heard.answer, WayAnswer)
            else Step(heard.id.decode(), heard.label, heard.state)
            for heard in await self._ask(WayQuestion(origin, epoch, sequence), names, seconds)
        ]
        return Trace(names[origin], epoch, sequence, steps)

    async def graph(self, seconds: float) -> list[Neighbours]:
        """Who is linked with whom."""
        names = self._names()
        return [
            Neighbours(
                heard.id.decode(),
                heard.label,
                heard.state,
                [names[each] for each in heard.answer.neighbours]
                if isinstance(heard.answer, LinksAnswer)
                else [],
            )
            for heard in await self._ask(LinksQuestion(), names, seconds)
        ]

    def _run(self) -> StreamId:
        return self._driver.node.status().stream

    def _origin(self, author: bytes) -> bytes | None:
        me = self._driver.local_node()
        if author == me.id:
            return me.origin
        if len(author) == ORIGIN_BYTES:
            return author
        # A guest is no member, and one that has left is forgotten in time: their messages are held.
        held = {stream.run[0] for stream in self._driver.node.report().streams}
        return self._members.origin(author) or next((one for one in held if id_of(one) == author), None)

    def _names(self, *others: bytes) -> Names:
        """The nodes that this one knows, and *others*: members, its neighbours, and itself."""
        me, members = self._driver.local_node(), self._members
        linked = {origin: id_of(origin).decode() for origin in (*self._reporting.neighbours(), *others)}
        known = {members.origin(node_id): node_id.decode() for node_id in members.table}
        return {me.origin: me.id.decode()} | linked | {each: name for each, name in known.items() if each}

    async def _ask(self, question: Asked, names: Names, seconds: float) -> list[_Heard]:
        """What each node says, this one first; of other nodes it names but those in *names*."""
        members, me = self._members, self._driver.local_node()
        known = {node_id: members.origin(node_id) for node_id in members.table}
        states = {node_id: member.state for node_id, member in members.table.items()}
        states |= {
            node_id: "listens"
            for node_id, origin in known.items()
            if origin and states[node_id] in _THERE and me.policy.only_listens(origin)
        }
        asked = [origin for node_id, origin in known.items() if origin and states[node_id] in _THERE]
        longest = self._driver.config.direct_timeout
        kept = partial(_known, names, max(NAMED_EACH, NAMED // len(names)))
        answers = await self.traces.ask(question, asked, kept, min(seconds, longest))
        told = [_Heard(me.id, me.profile.label, "up", kept(self._reporting.answer(question)))]
        for node_id, member in members.table.items():
            if (answer := answers.get(known.get(node_id) or b"")) is not None:
                told.append(_Heard(node_id, member.label, "up", answer))
            elif member.state != "left":
                state = _UNHEARD.get(states.get(node_id), "down")
                told.append(_Heard(node_id, member.label, state, None))
        return told


def _known(names: Names, most: int, answer: Told) -> Told:
    """The *answer*, naming at most *most* nodes, each once and of those in *names* alone."""
    if isinstance(answer, LinksAnswer):
        return LinksAnswer(_some(names, most, answer.neighbours))
    source = answer.source if answer.source in names else None
    return msgspec.structs.replace(answer, source=source, pushed=_some(names, most, answer.pushed))


def _some(names: Names, most: int, origins: list[bytes]) -> list[bytes]:
    return [origin for origin in dict.fromkeys(origins) if origin in names][:most]

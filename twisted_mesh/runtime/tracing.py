"""Questions to all nodes at once: by which way a message came, which nodes are linked, how much each lacks.

Contract: this node answers for itself, and asks the members that are up or suspect; it waits less long for
a suspect.  The result also has the nodes that did not answer in time, that are down, or whose grants let
them only listen.  If an answer names nodes that this node does not know, it is kept without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.delivery.direct import PendingDirects
from twisted_mesh.delivery.members import SUSPECT, UP, Members
from twisted_mesh.delivery.traces import Traces
from twisted_mesh.errors import Unreachable
from twisted_mesh.identity import ORIGIN_BYTES, id_of
from twisted_mesh.message import Member, MessageId
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.runtime.reporting import Reporting
from twisted_mesh.trace import Lag, Neighbours, Step, Trace
from twisted_mesh.wire.tracing import (
    Asked,
    LagAnswer,
    LagQuestion,
    LinksAnswer,
    LinksQuestion,
    Told,
    WayAnswer,
    WayQuestion,
)

NAMED: Final = 65_536  # nodes that all answers to a question may name together (guess: 0.5 MiB) ...
NAMED_EACH: Final = 32  # ... but each answer so many: a node has about 10 links (guess)
Names = Mapping[bytes, str]  # ids, by origin


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
        """Which nodes are linked with which, as each tells it."""
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

    async def lag(self, seconds: float) -> list[Lag]:
        """How much each node lacks."""
        return [
            Lag(heard.id.decode(), heard.label, heard.state, heard.answer.missing, heard.answer.untaken)
            if isinstance(heard.answer, LagAnswer)
            else Lag(heard.id.decode(), heard.label, heard.state, None, None)
            for heard in await self._ask(LagQuestion(), self._names(), seconds)
        ]

    def _run(self) -> StreamId:
        return self._driver.node.run

    def _origin(self, author: bytes) -> bytes | None:
        me = self._driver.local_node()
        if author == me.id:
            return me.origin
        if len(author) == ORIGIN_BYTES:
            return author
        # A guest is no member, and one that has left is forgotten in time: their messages are held.
        return self._members.origins.get(author) or self._driver.node.origin_of(author)

    def _names(self, *others: bytes) -> Names:
        """The nodes that this one knows, and *others*: members, its neighbours, and itself."""
        me, linked = self._driver.local_node().origin, self._reporting.neighbours()
        origins = (me, *linked, *others, *self._members.origins.values())
        return {origin: id_of(origin).decode() for origin in origins}

    async def _ask(self, question: Asked, names: Names, seconds: float) -> list[_Heard]:
        """What each node says, this one first; an answer names only nodes that are in *names*."""
        me, members, origins = self._driver.local_node(), self._members.table, self._members.origins
        unheard = {node_id: self._unheard(member) for node_id, member in members.items()}
        asked = [origins[node_id] for node_id, state in unheard.items() if state == "silent"]
        longest = self._driver.config.direct_timeout
        known = {origin: origin for origin in names}
        kept = partial(_known, known, max(NAMED_EACH, NAMED // len(names)))
        doubtful = [origins[node_id] for node_id, member in members.items() if member.state == SUSPECT]
        answers = await self.traces.ask(question, asked, kept, min(seconds, longest), doubtful)
        told = [_Heard(me.id, me.profile.label, "up", kept(self._reporting.answer(question)))]
        for node_id, member in members.items():
            if (answer := answers.get(origins[node_id])) is not None:
                told.append(_Heard(node_id, member.label, "up", answer))
            elif member.state != "left":
                told.append(_Heard(node_id, member.label, unheard.get(node_id, "down"), None))
        return told

    def _unheard(self, member: Member) -> str:
        """The state of a *member* that has not answered; one that is "silent" is asked."""
        if member.state not in (UP, SUSPECT):
            return "down"
        policy, origin = self._driver.local_node().policy, self._members.origins[member.id]
        return "listens" if policy.only_listens(origin) else "silent"


def _known(known: Mapping[bytes, bytes], most: int, answer: Told) -> Told:
    """The *answer*, naming at most *most* nodes, each once and of those that are *known* alone.

    :param known: each origin by itself: the bytes of the answer are not kept.
    """
    if isinstance(answer, LinksAnswer):
        return LinksAnswer(_some(known, most, answer.neighbours))
    if isinstance(answer, LagAnswer):
        return answer
    source = known.get(answer.source or b"")
    return msgspec.structs.replace(answer, source=source, pushed=_some(known, most, answer.pushed))


def _some(known: Mapping[bytes, bytes], most: int, origins: list[bytes]) -> list[bytes]:
    return [known[origin] for origin in dict.fromkeys(origins) if origin in known][:most]

"""A mesh of the nodes on a list, which all members read anew while they talk, each at its own time.

Contract: the scene is in :data:`LISTED`; the first members are an outsider, and a member that links with
everybody.  All messages of members are delivered.  No outsider has a link or is on a roster, and nothing of
it is delivered.  Nothing of a member that was struck out is delivered at a node once that has read so.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.adversaries.outsiders import Outsider, Sponsor
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage
from twisted_mesh.trust.allow_list import digest_of
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import Secrets

_WITHIN: Final = 10.0  # seconds in which all members read the list


class Gullible(ContentPolicy):
    """The policy of a node that links with everybody, and takes all messages."""

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        return None

    def bars(self, origin: bytes) -> bool:
        return False

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        return True


def content(members: Iterable[Member]) -> Content:
    """What a policy goes by whose list names *members*."""
    ids = frozenset(member.id for member in members)
    return Content(Secrets([], [], 0.0), ids, frozenset(), digest_of((ids, frozenset())))


def _listed(stage: Stage) -> None:
    world = stage.world
    outside = [member for member in world.members if isinstance(member, Outsider)]
    *inside, newcomer, gone = [member for member in world.members if not member.lies]
    helpers = [member for member in world.members if isinstance(member, Sponsor)]
    before, after = content([*inside, gone, *helpers]), content([*inside, newcomer, *helpers])
    for member in world.members:
        member.policy = ContentPolicy(before)
    for member in outside:
        member.policy = Gullible(content([*inside, *outside]))
    for member in helpers:
        member.policy = Gullible(before)
    stage.gather(members=[member for member in world.members if member is not newcomer])
    bootstrap(world, outside, stage.contact, *helpers)  # an outsider knows whoever helps it
    stage.run(FORMED)
    stage.chat(30.0, 2.0)
    for member in (*outside, gone):
        for _ in range(20):
            world.at(world.now + 30.0 * world.random.random(), partial(member.publish, "take this"))
    stage.run(10.0)
    told: dict[Member, int] = {}  # by member: how far it had come with the messages of the one struck out

    def read(member: Member) -> None:
        member.change_policy(after)
        told[member] = member.delivered.get(gone.run, 0)

    gone.lies = gone.unreliable = True
    for member in inside:
        world.at(world.now + _WITHIN * world.random.random(), partial(read, member))
    stage.run(_WITHIN)
    newcomer.policy = ContentPolicy(after)
    stage.gather(members=[newcomer])
    stage.run(15.0)
    stage.say()
    stage.end(patience(world.config))
    honest, out = world.honest(), (*outside, gone)
    links = sum(other.id in member.table for member in honest for other in out)
    known = sum(other.origin in member.node.roster for member in honest for other in out)
    taken = sum(other.run in member.delivered for member in (*inside, newcomer) for other in outside)
    later = sum(member.delivered.get(gone.run, 0) != last for member, last in told.items())
    later += gone.run in newcomer.delivered
    stage.shares = tuple(map(float, (links, known, taken, later)))
    stage.note(
        f"outsiders have {links} links, {known} know one, {taken} heard one; {later} heard more of the last"
    )


LISTED: Final = {
    "listed": Scene(_listed, 9, MeshConfig(presence_interval=10.0), kinds=(Outsider, Sponsor)),
}

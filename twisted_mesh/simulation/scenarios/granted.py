"""A mesh of the nodes to which an authority has given grants, outsiders, and members that are removed.

Contract: the scenes are in :data:`GRANTED`; the first members are outsiders, or help one that is removed.
All messages of members are delivered, and no outsider has a link or is on a roster.  The messages of a
removed member are delivered up to its cut, and from then on nothing more.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import PolicyGiven
from twisted_mesh.core.shares import LASTING, LATE
from twisted_mesh.identity import Identity
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.simulation.adversaries.outsiders import (
    Accomplice,
    Elsewhere,
    Outsider,
    RollingBack,
    Thief,
    WithoutGrant,
)
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import NETWORK, Member
from twisted_mesh.simulation.scenarios.outsiders import with_secret
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.trust.authority import Authority
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import Secrets
from twisted_mesh.wire.authority import Cut, Grant, GrantContent, PolicyContent, Quota, Removed, Roles
from twisted_mesh.wire.authority import Policy as SignedPolicy
from twisted_mesh.wire.codec import pack, pack_policy

KEY: Final = Identity(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"authority").digest()))
HERE, THERE = Authority(KEY.origin, NETWORK), Authority(KEY.origin, Protocol("elsewhere"))
MEMBER: Final = Roles.LINK | Roles.AUTHOR
_TALKS, _SAID = 12.0, 120  # seconds in which a member with a quota publishes, and so many messages


def grant(member: Member, authority: Authority = HERE, serial: int = 1) -> bytes:
    """A grant for *member*, packed."""
    unsigned = Grant(bytes(64), pack(GrantContent(authority.network, member.id, MEMBER, 1, serial)))
    return KEY.sign(unsigned.text) + unsigned.array


def policy(number: int, removed: dict[bytes, list[Cut]], *quotas: Quota) -> bytes:
    """A policy that removes nodes with their cuts, and has *quotas*, packed."""
    entries = [Removed(key, cuts) for key, cuts in removed.items()]
    content = PolicyContent(HERE.network, number, 0, entries, list(quotas))
    unsigned = SignedPolicy(bytes(64), pack_policy(content))
    return KEY.sign(unsigned.text) + unsigned.array


class Deaf(ContentPolicy):
    """The policy of a node that takes in no policy of the authority."""

    def take(self, packed: bytes) -> bool:
        return False


def policy_with(packed: bytes) -> ContentPolicy:
    """The policy of a node that shows the grant *packed*."""
    return ContentPolicy(Content(Secrets([], [], 0.0), None, frozenset(), b"", HERE, packed, MEMBER))


def policy_of(member: Member, victim: Member) -> Policy:
    """The policy with which *member* begins; a thief has the grant of *victim*."""
    match member:
        case WithoutGrant():
            return EVERYBODY
        case Thief():
            return policy_with(grant(victim))
        case Elsewhere():
            return policy_with(grant(member, THERE))
        case _:
            return policy_with(grant(member))


def with_grant(member: Member, victim: Member) -> Policy:
    """As :func:`policy_of`, in a mesh with a secret, too."""
    return with_secret(policy_of(member, victim))


def _granted(stage: Stage) -> None:
    world = stage.world
    inside = [member for member in world.members if not member.lies]
    outside = [member for member in world.members if isinstance(member, Outsider)]
    for member in world.members:
        member.policy = policy_of(member, inside[-1])
    newcomer = inside[-2]
    stage.gather(members=[member for member in world.members if member is not newcomer])
    stage.run(FORMED)
    stage.chat(20.0, 2.0)
    stage.run(10.0)
    stage.gather(members=[newcomer])  # it was granted while the others talk
    stage.run(15.0)
    stage.say()
    stage.end(patience(world.config))
    links = sum(len(member.links) for member in outside)
    known = sum(other.origin in member.node.roster for member in world.honest() for other in outside)
    stage.shares = (float(links), float(known))
    stage.note(f"outsiders have {links} links, and are on {known} rosters")


def _removed(stage: Stage) -> None:
    world = stage.world
    *inside, newcomer, gone = [member for member in world.members if not member.lies]
    for member in world.members:
        packed = grant(member)
        member.policy = policy_with(packed)
        if member is gone or isinstance(member, Accomplice):
            member.policy = Deaf(member.policy.content)
    stored = inside[3]
    stored.store = SimStore()
    stage.gather(members=[member for member in world.members if member is not newcomer])
    stage.run(FORMED)
    removed = {b"\1" * 32: [Cut(1, 1, b"")]}
    inside[0].handle(PolicyGiven(policy(1, removed)))
    for _ in range(40):  # it publishes on, and after its removal, too
        world.at(world.now + 30.0 * world.random.random(), partial(gone.publish, "one more"))
    stage.chat(30.0, 2.0)
    stage.run(15.0)
    removed[gone.origin] = [Cut(*end) for end in inside[0].node.ends(gone.origin)]
    (cut,) = removed[gone.origin]
    stage.run(4.0 * world.random.random())  # meanwhile others may have more
    inside[0].handle(PolicyGiven(policy(2, removed)))
    gone.lies = gone.unreliable = True
    stage.run(15.0)
    world.crash(stored)
    stage.run(1.0)
    stored.start()
    stage.run(5.0)
    told = {member: member.delivered.get(gone.run, 0) for member in inside}
    for number, member in ((3, inside[1]), (4, inside[2])):  # the authority's key is used in two places
        member.handle(PolicyGiven(policy(3, removed | {bytes([number]) * 32: []})))
    stage.gather(members=[newcomer])
    stage.run(15.0)
    stage.say()
    stage.end(patience(world.config))
    honest = world.honest()
    links = sum(other in gone.table for other in (member.id for member in honest))
    known = sum(gone.origin in member.node.roster for member in honest)
    missed = sum(last < cut.number for last in told.values())
    beyond = [member for member in inside if member.delivered.get(gone.run, 0) > cut.number]
    silent = sum(member.short.get(gone.run) != member.delivered[gone.run] for member in beyond)
    later = sum(member.delivered.get(gone.run, 0) != last for member, last in told.items())
    later += newcomer.delivered.get(gone.run, 0) > cut.number
    policies = len({member.policy.newest for member in honest}) - 1
    stage.shares = tuple(map(float, (links, known, missed, silent, later, policies)))
    stage.note(
        f"the removed member has {links} links, {known} know it, {missed} missed something before its cut; "
        f"{len(beyond)} had delivered more, {silent} of them silently; {later} did so later"
    )


def _quota(stage: Stage) -> None:
    world = stage.world
    *inside, talker, deaf, newcomer = world.members
    for member in world.members:
        member.late = 0.0 if member is talker else 2 * LATE
        member.retention = int(world.config.history_seconds)
        member.policy = policy_with(grant(member))
    deaf.policy = Deaf(policy_with(grant(deaf)).content)
    stage.gather(members=[member for member in world.members if member is not newcomer])
    stage.run(FORMED)
    for _ in range(_SAID):
        world.at(world.now + _TALKS * world.random.random(), partial(talker.publish, "one more"))
    stage.chat(_TALKS, 4.0)
    stage.run(_TALKS / 3)
    inside[0].handle(PolicyGiven(policy(1, {}, Quota(talker.origin, 1, 0))))
    stage.run(_TALKS / 3)
    stage.gather(members=[newcomer])
    stage.run(_TALKS / 3)
    taken = max(member.node.head(talker.run) for member in inside)
    refused = sum(member.node.counts["over_share"] for member in inside)
    stage.note(f"at most {taken} of {_SAID} messages were taken by then; {refused} batches were refused")
    stage.shares = float(taken), float(refused), float(deaf.node.counts["over_share"])
    stage.end(patience(world.config) + LASTING)
    for member in (*inside, deaf):
        if member.node.head(talker.run) < _SAID:
            world.violated(member, "missed", "messages over their author's quota never came")


GRANTED: Final = {
    "quota": Scene(_quota, 8, MeshConfig(presence_interval=10.0)),
    "removed": Scene(_removed, 10, MeshConfig(presence_interval=10.0), kinds=(Accomplice, RollingBack)),
    "granted": Scene(
        _granted,
        10,
        MeshConfig(presence_interval=10.0),
        kinds=(WithoutGrant, Thief, Elsewhere),
    ),
}

"""A mesh of the nodes to which an authority has given grants, and outsiders that try to join it.

Contract: the scene is in :data:`GRANTED`; the first members are outsiders.  All messages of members are
delivered, and no outsider has a link or is on a roster.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.config import MeshConfig
from twisted_mesh.identity import Identity
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.simulation.adversaries.outsiders import Elsewhere, Outsider, Thief, WithoutGrant
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import NETWORK, Member
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage
from twisted_mesh.trust.authority import Authority
from twisted_mesh.trust.policy import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import Secrets
from twisted_mesh.wire.authority import Grant, GrantContent, Roles
from twisted_mesh.wire.codec import pack

KEY: Final = Identity(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"authority").digest()))
HERE, THERE = Authority(KEY.origin, NETWORK), Authority(KEY.origin, Protocol("elsewhere"))
MEMBER: Final = Roles.LINK | Roles.AUTHOR


def grant(member: Member, authority: Authority = HERE, serial: int = 1) -> bytes:
    """A grant for *member*, packed."""
    unsigned = Grant(bytes(64), pack(GrantContent(authority.network, member.id, MEMBER, 1, serial)))
    return KEY.sign(unsigned.text) + unsigned.array


def policy_with(packed: bytes) -> Policy:
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


GRANTED: Final = {
    "granted": Scene(
        _granted,
        10,
        MeshConfig(presence_interval=10.0),
        kinds=(WithoutGrant, Thief, Elsewhere),
    )
}

"""A mesh with a secret, which is replaced while its members send messages and outsiders try to join.

Contract: the scene is in :data:`OUTSIDERS`; the first members are outsiders.  All messages of members are
delivered, those of a member that died before the new secret included, and no outsider gets a byte.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.network import EVERYBODY, Policy
from twisted_mesh.simulation.adversaries.outsiders import OfOldSecret, Outsider, Repeater, WithoutSecret
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import NETWORK, Member
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import Secret, Secrets

_STEP: Final = 15.0  # seconds from one step of the replacement to the next
_WITHIN: Final = 5.0  # seconds in which all members take a step
_KEY: Final = NETWORK.key_with("")
RETIRED, OLD, NEW, OTHER = (
    Secret(hashlib.sha256(name).digest(), _KEY) for name in (b"retired", b"old", b"new", b"other")
)


def content(used: list[Secret], retired: list[Secret] | None = None) -> Content:
    """What a policy of secrets goes by."""
    return Content(Secrets(used, retired or [], 0.0), None, frozenset(), b"")


#: The secrets of a member after each step of the replacement.
STEPS: Final = (content([OLD, NEW]), content([NEW, OLD]), content([NEW], [OLD]))


def policy_of(member: Member) -> Policy:
    """The policy with which *member* begins."""
    match member:
        case Repeater() | WithoutSecret():
            return EVERYBODY
        case OfOldSecret():
            return ContentPolicy(content([RETIRED]))
        case Outsider():
            return ContentPolicy(content([OTHER]))
        case _:
            return ContentPolicy(content([OLD], [RETIRED]))


def with_secret(policy: Policy) -> Policy:
    """*policy*, in a mesh with a secret, too."""
    assert isinstance(policy, ContentPolicy)
    policy.content = policy.content._replace(secrets=content([OLD]).secrets)
    return policy


def _replaced(stage: Stage) -> None:
    world = stage.world
    inside = [member for member in world.members if not member.lies]
    outside = [member for member in world.members if isinstance(member, Outsider)]
    dead, leaver = inside[-1], inside[-2]
    for member in world.members:
        member.policy = policy_of(member)
    stage.gather()
    stage.run(FORMED)
    for repeater in outside:
        if isinstance(repeater, Repeater):
            repeater.recorded = world.last_handshake
    stage.say()
    stage.run(5.0)
    dead.publish("the last words")
    stage.run(1.0)
    world.crash(dead)
    stage.chat(3 * _STEP, 2.0)
    for step in STEPS:
        for member in inside:
            if member is not leaver:  # whoever is not told has the old secret, and is out
                world.at(world.now + _WITHIN * world.random.random(), partial(member.change_policy, step))
        stage.run(_STEP)
    leaver.lies = leaver.unreliable = True  # from here on it is an outsider with the old secret
    stage.run(_STEP)
    stage.say()
    stage.end(patience(world.config))
    heard = sum(len(member.heard) for member in outside)
    links = sum(len(member.links) for member in (*outside, leaver))
    known = sum(other.origin in member.node.roster for member in world.honest() for other in outside)
    stage.shares = (float(heard), float(links), float(known))
    stage.note(f"outsiders got {heard} bytes, have {links} links, and are on {known} rosters")


OUTSIDERS: Final = {
    "outsiders": Scene(
        _replaced,
        12,
        MeshConfig(presence_interval=10.0),
        kinds=(Outsider, WithoutSecret, Repeater),
    )
}

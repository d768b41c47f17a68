"""A mesh of the nodes to which a certificate authority (CA) has given certificates, and outsiders.

Contract: the scenes are in :data:`CERTIFIED`; the first members are outsiders, or help one.  All messages
of members are delivered.  No outsider is on a roster of an honest member, or has a link with one, and no
honest member delivers a message of an outsider, whoever passes it on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from twisted_mesh.config import MeshConfig
from twisted_mesh.network import Policy
from twisted_mesh.simulation.adversaries.outsiders import (
    OfAnotherCa,
    Outsider,
    Sponsor,
    Thief,
    Uncertified,
)
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.outsiders import with_secret
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage
from twisted_mesh.trust.certificates import Certificates
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import Secrets

MODE: Final = "certificates"
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR: Final = timedelta(days=365)
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])


class Ca:
    """A CA, the same in every run.

    :ivar certificate: its own.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
        self.certificate = self._signed(self._key.public_key(), True)

    def certify(self, member: Member) -> x509.Certificate:
        """A certificate of the key of *member*."""
        return self._signed(Ed25519PublicKey.from_public_bytes(member.origin), False)

    def _signed(self, key: Ed25519PublicKey, is_ca: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(_NAME)
            .issuer_name(_NAME)
            .public_key(key)
            .serial_number(1)
            .not_valid_before(_BEGIN)
            .not_valid_after(_BEGIN + _YEAR)
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .sign(self._key, None)
        )


HERE, THERE = Ca(b"here"), Ca(b"there")


class Silent(Policy):
    """The policy of a node that is of the network, and shows no certificate."""

    mode = MODE


class Gullible(ContentPolicy):
    """The policy of a node that links with everybody, and takes all messages."""

    def why_not_certified(self, origin: bytes, certificate: bytes, name: str | None = None) -> str | None:
        return None

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        return True


def content(own: x509.Certificate, cas: Sequence[Ca] = (HERE,)) -> Content:
    """What the policy of a node with the certificate *own* goes by."""
    found = Certificates([ca.certificate for ca in cas], own, (_BEGIN + _YEAR / 2).timestamp, 1.0)
    return Content(Secrets([], [], 0.0), None, frozenset(), b"", certificates=found)


def policy_of(member: Member, victim: Member) -> Policy:
    """The policy of *member*; a thief has the certificate of *victim*."""
    match member:
        case Uncertified():
            return Silent()
        case Thief():
            return ContentPolicy(content(HERE.certify(victim)), MODE)
        case OfAnotherCa():
            return ContentPolicy(content(THERE.certify(member), (HERE, THERE)), MODE)
        case Sponsor():
            return Gullible(content(HERE.certify(member)), MODE)
        case _:
            return ContentPolicy(content(HERE.certify(member)), MODE)


def with_certificate(member: Member, victim: Member) -> Policy:
    """As :func:`policy_of`, in a mesh with a secret, too."""
    return with_secret(policy_of(member, victim))


def _certified(stage: Stage) -> None:
    world = stage.world
    inside = [member for member in world.members if not member.lies]
    outside = [member for member in world.members if isinstance(member, Outsider)]
    for member in world.members:
        member.policy = policy_of(member, inside[-1])
    newcomer = inside[-2]
    stage.gather(members=[member for member in world.members if member is not newcomer])
    sponsors = [member for member in world.members if isinstance(member, Sponsor)]
    bootstrap(world, outside, stage.contact, *sponsors)  # an outsider knows whoever helps it
    stage.run(FORMED)
    stage.chat(20.0, 2.0)
    for number, member in enumerate(outside):
        for later in range(5):
            world.at(world.now + 4.0 * later + number, partial(member.publish, "let me in"))
    stage.run(10.0)
    stage.gather(members=[newcomer])
    stage.run(15.0)
    stage.say()
    stage.end(patience(world.config))
    honest = world.honest()
    links = sum(other.id in member.table for member in honest for other in outside)
    known = sum(other.origin in member.node.roster for member in honest for other in outside)
    taken = sum(other.run in member.delivered for member in honest for other in outside)
    stage.shares = (float(links), float(known), float(taken))
    stage.note(f"honest members have {links} links with outsiders, know {known}, and heard {taken}")


CERTIFIED: Final = {
    "certified": Scene(
        _certified,
        10,
        MeshConfig(presence_interval=10.0),
        kinds=(Uncertified, Thief, OfAnotherCa),
    ),
    "sponsored": Scene(
        _certified,
        10,
        MeshConfig(presence_interval=10.0),
        kinds=(Sponsor, OfAnotherCa, Uncertified),
    ),
}

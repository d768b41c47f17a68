"""Nodes that do not belong to a mesh that not everybody may join, and dial its members all the time.

Contract: no member may link with one, or have it on its roster.  If there is a secret, an outsider must get
no byte of a member.
"""

from __future__ import annotations

from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire.authority import Policy


class Outsider(Member):
    """Knows another secret; its policy says so.

    :ivar heard: all bytes that it ever got.
    """

    lies = True
    unreliable = True

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.heard = b""

    def hear(self, data: bytes) -> None:
        """Keep the bytes that a member has sent."""
        self.heard += data


class WithoutSecret(Outsider):
    """Knows no secret."""


class OfOldSecret(Outsider):
    """Knows a secret that the mesh has retired."""


class Repeater(Outsider):
    """Repeats the handshake of a member, which it has got hold of.

    :ivar recorded: what a member has sent in a handshake, of which this one repeats the first frames.
    """

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.recorded = b""

    def say(self, data: bytes) -> bytes:
        """Send what was recorded, in place of the own KNOCK, and nothing else."""
        recorded, self.recorded = self.recorded, b""
        return recorded


class WithoutGrant(Outsider):
    """Has no grant of the mesh's authority."""


class Thief(Outsider):
    """Shows the grant or the certificate of a member."""


class Accomplice(Member):
    """Goes on as if the authority had removed nobody."""

    lies = True


class RollingBack(Member):
    """Hands on the first policy that it heard in place of each later one."""

    lies = True

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.first: Policy | None = None

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Replace a policy."""
        if isinstance(frame, Policy):
            frame = self.first = self.first or frame
        super().transmit(number, frame, size)


class Uncertified(Outsider):
    """Is of a mesh with a certificate authority (CA), and shows no certificate."""


class OfAnotherCa(Outsider):
    """Shows a certificate of another CA."""


class Sponsor(Member):
    """Links with everybody, and passes on all that it gets."""

    lies = True


class Elsewhere(Outsider):
    """Has a grant of the same authority for another network."""

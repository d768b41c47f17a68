"""A program as users write them, for the type checker alone: nothing runs it.

``mypy --strict`` reads it with the package; what is asserted here is what a checker tells users.
"""

from __future__ import annotations

from typing import assert_type

from twisted_mesh import Gap, Member, MeshService, MeshSocket, Message


def listen(service: MeshService, sock: MeshSocket) -> None:
    """A listener stays what it is, as a decorated function and as one that is given."""

    @service.on("gap")
    def lost(gap: Gap) -> None:
        print(gap.sender)

    @service.once("member")
    def first(member: Member) -> bool:
        return member.state == "up"

    @sock.on("gap")
    def lost_here(gap: Gap) -> None:
        print(gap.first)

    def heard(message: Message) -> int:
        return message.type

    message = sock.recv(timeout=None)
    assert_type(message, Message | None)  # None when the socket is closed meanwhile
    assert message is not None
    lost(Gap(message.sender, 1, 1, 1, "an example"))
    lost_here(Gap(message.sender, 1, 1, 1, "an example"))
    assert_type(first(service.members[message.sender]), bool)
    assert_type(service.on("message", heard)(message), int)
    assert_type(service.once("message", heard)(message), int)

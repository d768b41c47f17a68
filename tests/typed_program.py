"""A program as users write them, for the type checker alone: nothing runs it.

``mypy --strict`` reads it with the package; what is asserted here is what a checker tells users.
"""

from __future__ import annotations

from typing import assert_type

from twisted.internet.defer import Deferred

from twisted_mesh import Gap, Member, MeshService, MeshSocket, Message
from twisted_mesh.aio import Link, Mesh, Receipt
from twisted_mesh.trace import Lag, Neighbours, Trace


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

    assert_type(sock.connect("127.0.0.1", 4444), bool | Deferred[bool | None] | None)
    message = sock.recv(timeout=None)
    assert_type(message, Message | None)  # None when the socket is closed meanwhile
    assert message is not None
    assert_type(sock.send_to(message.sender, "x"), Deferred[None] | None)
    assert_type(sock.request(message.sender, "x"), Message | Deferred[Message])
    assert_type(sock.ping(message.sender), float | Deferred[float])
    assert_type(service.request(message.sender, "x"), Deferred[Message])
    assert_type(service.ping(message.sender), Deferred[float])
    assert_type(message.reply("x"), Deferred[None])
    for answer in sock.query("x"):
        assert_type(answer, Message)
    assert_type(sock.graph(), list[Neighbours])
    assert_type(sock.lag(), list[Lag])
    lost(Gap(message.sender, 1, 1, 1, "an example"))
    lost_here(Gap(message.sender, 1, 1, 1, "an example"))
    assert_type(first(service.members[message.sender]), bool)
    assert_type(service.on("message", heard)(message), int)
    assert_type(service.once("message", heard)(message), int)
    service.send("x", b"x", 1, 0.5, None, True, ["x", {"y": [(1, 2)]}], {"a": {1: None}})
    service.send_many(["x", b"x", [1, {"y": None}]], type=0x30)
    service.send_many({1, 2} for _ in range(2))  # type: ignore[misc]
    service.send(object())  # type: ignore[call-overload]  # what cannot be sent
    sock.send(["x", {1, 2}])  # type: ignore[list-item]
    message.reply(object())  # type: ignore[arg-type]
    sock.request(message.sender, {"x": object()})  # type: ignore[dict-item]
    service.send_to(message.sender, [object()])  # type: ignore[list-item]
    service.on("mesage", heard)  # type: ignore[call-overload]  # an event that there is not


async def talk(mesh: Mesh) -> None:
    """In asyncio, what is awaited has the type of its result."""
    async with mesh as opened:
        assert_type(opened, Mesh)
        assert_type(await mesh.send("x", type=0x30), None)
        receipt = await mesh.send("x", receipt=True)
        assert_type(receipt, Receipt)
        assert_type(await receipt.complete(timeout=10), Receipt)
        assert_type(await mesh.connect("127.0.0.1", 4444), Link)
        async for message in mesh.messages():
            assert_type(message, Message)
            assert_type(await message.reply("x"), None)
            assert_type(await mesh.send_to(message.sender, "x"), None)
            assert_type(await mesh.request(message.sender, "x", timeout=5), Message)
            assert message.id is not None
            assert_type(await mesh.trace(message.id), Trace)
        async for answer in mesh.query("x"):
            assert_type(answer, Message)
        assert_type(mesh.members, dict[bytes, Member])

        @mesh.on("message")
        async def heard(message: Message) -> int:
            return message.type

        assert_type(await heard(message), int)

"""Removes a node from the mesh: tells where its runs end here, and takes in the authority's policy.

Contract: each method takes the body of a POST, and returns the answer.  What it takes in is signed by the
authority, so whoever may ask cannot remove a node without the authority's key.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.web import http

from twisted_mesh.admin.bodies import Cut, Reader, SignedPolicy
from twisted_mesh.admin.site import Refused
from twisted_mesh.delivery.names import UnknownName, member_named
from twisted_mesh.errors import RemoteError
from twisted_mesh.service import MeshService
from twisted_mesh.trust.allow_list import is_id

_CUT: Final = Reader(Cut, '{"member": "name"}')
_POLICY: Final = Reader(SignedPolicy, '{"policy": "hexadecimal digits"}')


class Removing:
    """The removal of members, by one node."""

    def __init__(self, node: MeshService) -> None:
        self._node = node

    def cut(self, body: bytes) -> Any:
        """The key of a node, the ends of its runs as this node has them, and the newest policy here."""
        cut: Cut = _CUT.read(body)
        try:
            id = member_named(cut.member, self._node.members.values()).id
        except UnknownName:
            if not is_id(cut.member):
                raise
            id = cut.member.encode()  # it may be gone, and its messages still held
        key, ends = self._node.runs_of(id)
        return {
            "id": id.decode(),
            "key": key.hex(),
            "cuts": [[epoch, number, hash.hex()] for epoch, number, hash in ends],
            "policy": self._node.authority_policy.hex(),
        }

    def policy(self, body: bytes) -> Any:
        """Take in a policy, unless the text is empty, and return the newest one that this node knows."""
        signed: SignedPolicy = _POLICY.read(body)
        try:
            if signed.policy:
                self._node.take_policy(bytes.fromhex(signed.policy))
        except (ValueError, RemoteError) as error:
            raise Refused(http.BAD_REQUEST, f"that is no policy of this mesh: {error}") from None
        return {"policy": self._node.authority_policy.hex()}

"""The wire: turns bytes into values (frames), and values into bytes.

Contract: for bytes of a peer, these functions raise :class:`~twisted_mesh.errors.RemoteError` and no other
exception.  The order of the fields in a frame's class is their order in its array (docs/protocol.rst).
"""

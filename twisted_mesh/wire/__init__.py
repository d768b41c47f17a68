"""The wire: bytes to values and back, nothing else.

Contract: pure functions and small readers.  Whatever bytes a peer sends, they raise
:class:`~twisted_mesh.errors.RemoteError` or nothing.
"""

"""The wire floor: bytes to values and back, nothing else.

Contract: pure functions and small readers; peer bytes raise
:class:`~twisted_mesh.errors.RemoteError` and nothing else, whatever they hold.
"""

"""The systems that are compared: each module is the program of one node, alone in its process.

``program`` is what they share.  It imports nothing but the standard library, since each system runs in an
environment of its own; ``on_asyncio`` and ``on_twisted`` run a node in the loop it belongs to.
"""

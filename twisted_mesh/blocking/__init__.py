"""The code behind MeshSocket: calls that block while the reactor runs in a thread of its own."""

"""A node in the reactor's thread, for code in other threads: shared by MeshSocket and aio.Mesh."""

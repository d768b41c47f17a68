"""Behind MeshSocket: its calls block, and the reactor runs in a thread."""

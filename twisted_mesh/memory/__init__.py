"""Behind testing.MemoryMesh: a network in memory."""

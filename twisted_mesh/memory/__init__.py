"""What stands behind testing.MemoryMesh: a network in memory."""

"""The code behind testing.MemoryMesh: a network in memory."""

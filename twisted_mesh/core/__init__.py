"""The core: all decisions of a node, computed from events and the time that the caller gives.

Contract: nothing here does I/O, reads a clock, draws randomness or runs user code.  The
result depends on the events alone, so the simulator can replay a whole network from a seed.
"""

"""The core floor: what a node decides, computed from events and a passed-in time.

Contract: nothing here does I/O, reads a clock, draws randomness or runs user code.  All of it is a
function of the events it was given, so a seed replays a whole network.
"""

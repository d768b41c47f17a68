"""The messages that a node holds: of which authors, and for how long."""

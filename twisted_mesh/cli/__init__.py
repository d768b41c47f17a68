"""The command line of a node: what it reads and writes."""

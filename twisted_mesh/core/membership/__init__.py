"""Which nodes are members, and which members are up."""

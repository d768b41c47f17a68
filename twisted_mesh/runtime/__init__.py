"""A node that runs: effects become I/O here, in one place."""

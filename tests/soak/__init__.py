"""A second opinion on the promises: real processes, and a proxy between them that misbehaves."""

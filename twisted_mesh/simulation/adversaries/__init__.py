"""Members of a simulated mesh that break the rules."""

"""Who misbehaves in a simulated mesh."""

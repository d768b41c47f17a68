"""What a node holds, of whom, and for how long."""

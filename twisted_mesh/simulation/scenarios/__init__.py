"""What happens to a simulated mesh."""

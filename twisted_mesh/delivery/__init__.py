"""What the application sees."""

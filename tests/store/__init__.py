"""What is stored, in files of a real disk."""

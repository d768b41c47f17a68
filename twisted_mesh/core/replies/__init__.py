"""What goes back to an author, and from one member to another."""

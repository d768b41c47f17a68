"""Who belongs to the mesh: whoever has its secret."""

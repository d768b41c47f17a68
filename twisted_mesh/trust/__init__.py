"""Who belongs to the mesh: the nodes with its secret, those on a list, or all but those on a list."""

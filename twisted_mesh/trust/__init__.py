"""Who belongs to the mesh: by a secret, an authority, certificates of a CA, or a list."""

"""Which nodes are neighbours, and how parts of a mesh that are not connected find each other."""

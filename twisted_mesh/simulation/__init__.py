"""A simulated network of nodes, and checks of their promises: ``python -m twisted_mesh.simulation``."""

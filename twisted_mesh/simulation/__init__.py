"""A seeded network of cores, and the promises held against it: ``python -m twisted_mesh.simulation``."""

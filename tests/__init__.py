"""The tests of twisted_mesh, laid out as the package is: ``python -m twisted.trial tests``."""

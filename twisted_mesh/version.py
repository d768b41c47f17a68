"""The version of this package; setup.cfg reads it here."""

#: In the form of PEP 440.
__version__ = "0.1.0.dev0"

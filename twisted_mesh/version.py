"""The version of this package, for its users and for its installers alike: setup.cfg reads it here."""

#: As PEP 440 spells it.
__version__ = "0.1.0.dev0"

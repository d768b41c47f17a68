"""Additions to the reactor, to Deferreds and to processes that fork."""

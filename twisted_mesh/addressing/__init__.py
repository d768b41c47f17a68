"""Addresses: those of this host, those of peers, and the look-up of names."""

"""The addresses of this host and of peers, and the look-up of names."""

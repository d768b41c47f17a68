"""Connections: here the bytes of peers become events of the core."""

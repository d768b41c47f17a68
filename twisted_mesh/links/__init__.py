"""Connections: bytes become events here."""

"""Stores the history.  The writer works with any store; the only one now is a SQLite file."""

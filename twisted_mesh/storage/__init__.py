"""Stores of the history: another store is one more module beside SQLite's."""

"""The history file: another store is one more module beside SQLite's."""

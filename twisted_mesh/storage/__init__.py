"""Storing the history: the writer drives any store; another than SQLite is one more module here."""

"""Storing the history: the writer drives any store.  SQLite is one; another would be a module here."""

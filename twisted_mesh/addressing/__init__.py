"""Addresses: which are told, which are kept, and how names become some."""

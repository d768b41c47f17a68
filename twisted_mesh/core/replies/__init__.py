"""Receipts, which go back to an author, and direct messages from one member to another."""

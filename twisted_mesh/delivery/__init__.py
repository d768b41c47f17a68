"""Messages, events, members and receipts for the application."""

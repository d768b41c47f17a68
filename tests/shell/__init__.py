"""Services on in-memory links and a Clock, with real TLS."""

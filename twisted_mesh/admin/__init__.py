"""A running node for the people who run it: its status, events and messages over HTTP, and metrics."""

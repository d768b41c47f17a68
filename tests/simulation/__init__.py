"""The core under its simulator: the promises, and how much it costs to keep them."""

"""Properties of the code, tried with what hypothesis thinks up: the same examples each time."""

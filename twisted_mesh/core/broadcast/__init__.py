"""How messages go out and come in, and how missing messages are asked for."""

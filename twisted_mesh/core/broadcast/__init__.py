"""How messages go out, come in, and are got again if they are missed."""

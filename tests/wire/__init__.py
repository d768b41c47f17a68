"""The tests of the wire floor: bytes to values and back."""

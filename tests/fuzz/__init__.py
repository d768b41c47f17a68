"""Functions that take any bytes, for a fuzzer, and the bytes that were worth keeping."""

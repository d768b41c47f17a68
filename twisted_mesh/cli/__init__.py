"""The command ``mesh``, and the standard input and output of ``twistd mesh``."""

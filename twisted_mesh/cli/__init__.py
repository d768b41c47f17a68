"""Standard input and output of ``twistd mesh``."""

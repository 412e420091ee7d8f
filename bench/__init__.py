"""Figures of a replicated pair over NBD, measured in turns with others on the same machine."""

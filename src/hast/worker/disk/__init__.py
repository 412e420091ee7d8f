"""The local provider: who may open a disk is here, and nowhere else."""

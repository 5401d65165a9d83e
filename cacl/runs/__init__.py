"""The run directory: its files, checkpoints, and the way back to a model."""

"""Checkpoints that others released, as our model."""

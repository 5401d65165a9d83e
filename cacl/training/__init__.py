"""The trainer: the step, engines, optimizers, the moving average, validation and what is logged."""

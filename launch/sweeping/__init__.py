"""The parts of `cacl sweep`: the space, a trial, the scheduler that survives, the live table, the report."""

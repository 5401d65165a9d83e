"""The parts of `cacl sweep`: the space, a trial, the rungs that survive, the live table, the report."""

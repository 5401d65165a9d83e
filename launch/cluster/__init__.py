"""SLURM: what is asked of it, and the jobs that are sent to it."""

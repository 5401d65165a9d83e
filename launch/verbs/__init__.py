"""The verbs of the command: a file each, its arguments, one call into `launch.jobs`, and what is printed."""

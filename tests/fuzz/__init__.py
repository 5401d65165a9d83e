"""Fuzzing of everything that cacl reads from a file which somebody else may have made."""

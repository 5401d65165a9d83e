"""Metrics, protocols, comparisons, and what an evaluation leaves behind."""

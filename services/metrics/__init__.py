"""Metrics: the program's numbers, built from what the other services announce."""

"""The rules behind the numbers: what counts, from when until when, and what a figure makes of it."""

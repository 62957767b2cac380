"""Inventory: every AI asset of the organisation, what it depends on, and what is missing about it."""

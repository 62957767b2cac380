"""The use cases that write, by concept: each is one transaction, opened by whoever calls it."""

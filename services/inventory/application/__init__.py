"""The use cases that write. Each takes the transaction in which all of it happens or none of it."""

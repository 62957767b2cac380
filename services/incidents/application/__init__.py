"""The use cases that write. Each takes the one transaction that it is done in; requests and events call the same."""

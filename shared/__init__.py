"""What the services agree on; imports no service."""

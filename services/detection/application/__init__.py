"""The use cases that write. Each takes the transaction that it is done in; requests and periodic work call the same."""

from shared.tokens import Caller

SYSTEM = Caller("service:detection", "service")
"""Who acts when nobody asked: what expires, what a release ships."""

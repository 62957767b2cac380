"""The smallest service there can be, on which the backbone is tested: it keeps entries and counts its own events."""

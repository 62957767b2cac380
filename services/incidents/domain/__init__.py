"""The rules of incident response, free of IO: time, identifiers and randomness are arguments."""

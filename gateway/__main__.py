"""`python -m gateway serve | migrate | create-key | list-keys | revoke-key | lift-revocation | audit ...`."""

from gateway.main import app

app()

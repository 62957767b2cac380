"""The one-machine stack: PostgreSQL and NATS from their wheels, every service and the gateway, supervised.

`postgres.Postgres` and `nats.Nats` also stand alone, as context managers; the tests start throwaway servers with them.
"""

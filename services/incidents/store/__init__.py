"""The service's schema and all its SQL. Every function takes a transaction and opens none."""

from services.incidents.store.tables import metadata

__all__ = ["metadata"]

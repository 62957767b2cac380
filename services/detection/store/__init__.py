"""The service's schema and all its SQL. Every function takes a transaction and opens none."""

from services.detection.store.tables import metadata

__all__ = ["metadata"]

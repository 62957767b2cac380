"""This service's schema and all its SQL; takes a transaction, never opens one."""

from services.risk.store.tables import metadata

__all__ = ["metadata"]

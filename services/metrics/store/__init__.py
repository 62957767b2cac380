"""This service's tables and all of its SQL."""

from services.metrics.store.tables import REBUILT, metadata

__all__ = ["REBUILT", "metadata"]

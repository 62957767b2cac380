"""Who acts when no caller does, and ids for what is new."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat as uuid_utils

from shared.tokens import Caller

GOVERNANCE = Caller("service:governance", "service")
"""This service itself: jobs, and what follows from events. Sees the whole organisation."""


def new_id() -> UUID:
    """A UUIDv7, so that the order of ids is the order of creation."""
    return uuid_utils.uuid7()

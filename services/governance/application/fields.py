"""Refusals that name the field which led to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import NotFound


@contextmanager
def named(field: str) -> Iterator[None]:
    """What is not found in the block was asked for by this field of the body (JSON Pointer)."""
    try:
        yield
    except NotFound as error:
        error.extra.setdefault("errors", [{"field": field, "message": error.detail}])
        raise

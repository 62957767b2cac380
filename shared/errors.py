"""What can be refused, in words; knows no HTTP.

The first line of a class's docstring is the problem's title, `detail` names the thing, and `extra` travels with the
problem. Services subclass these in their domain.
"""

from __future__ import annotations

from typing import Any


class DomainError(Exception):
    """The request was refused."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(DomainError):
    """No such thing, or none that you may know of."""


class Conflict(DomainError):
    """The current state forbids it."""


class Forbidden(DomainError):
    """You may not do this."""


class Unauthenticated(DomainError):
    """Who you are could not be established."""


class Invalid(DomainError):
    """The request is not valid.

    Args:
        field: JSON Pointer (RFC 6901) or parameter name of what is wrong.
    """

    def __init__(self, detail: str, *, field: str | None = None, **extra: Any) -> None:
        errors = extra.pop("errors", None) or ([{"field": field, "message": detail}] if field else [])
        super().__init__(detail, errors=errors, **extra)


class PreconditionFailed(DomainError):
    """It was changed by somebody else in the meantime."""


class PreconditionRequired(DomainError):
    """Say which version you are changing."""


class TooLarge(DomainError):
    """The request is larger than allowed."""


class TooManyRequests(DomainError):
    """Too many requests."""

    def __init__(self, detail: str, *, retry_after_seconds: int, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(DomainError):
    """Something this needs is down; try again shortly."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 2, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_seconds = retry_after_seconds

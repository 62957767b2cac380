"""What a route demands of its caller: scopes, the roles that hold them, and the teams whose things are seen.

A route without a declared scope keeps the application from starting (shared/service.py checks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import sqlalchemy as sa

from shared.errors import Forbidden
from shared.tokens import Caller

__all__ = ["PUBLIC", "ROLES", "SCOPES", "Caller", "requires", "scope_of", "scopes_of_roles", "visible"]

F = TypeVar("F", bound=Callable[..., Any])

PUBLIC = "public"
"""Scope of the few routes that anyone may call: liveness, metrics, the API's description."""

_READ = frozenset(
    {"inventory:read", "risk:read", "detection:read", "incidents:read", "governance:read", "metrics:read"}
)
_ANALYST = _READ | {"detection:inspect", "incidents:write"}

SCOPES: frozenset[str] = _READ | {
    "inventory:write",
    "inventory:respond",
    "risk:write",
    "detection:inspect",
    "detection:write",
    "detection:respond",
    "incidents:write",
    "governance:write",
    "governance:approve",
    "access:read",
    "access:write",
    "access:respond",
    "telemetry:write",
}

ROLES: dict[str, frozenset[str]] = {
    "viewer": _READ,
    "analyst": _ANALYST,
    "responder": _ANALYST | {"detection:write", "detection:respond", "inventory:respond", "access:respond"},
    "engineer": _READ | {"inventory:write", "detection:inspect", "detection:write", "risk:write", "governance:write"},
    "approver": _READ | {"governance:write", "governance:approve"},
    "admin": SCOPES,
    "ingest": frozenset({"detection:inspect", "telemetry:write"}),
    "service": frozenset(),
}
"""Role -> scopes. A service's scopes are set token by token, within the ceiling of its issuer."""


def scopes_of_roles(roles: Iterable[str]) -> frozenset[str]:
    """Everything that holders of `roles` may do; an unknown role adds nothing."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))


def requires(scope: str) -> Callable[[F], F]:
    """Declare the scope an endpoint demands; goes directly above the function, below the router's decorator."""
    if scope != PUBLIC and scope not in SCOPES:
        raise ValueError(f"{scope!r} is not a scope")

    def mark(endpoint: F) -> F:
        endpoint.__colonnade_scope__ = scope  # type: ignore[attr-defined]  # read back by scope_of
        return endpoint

    return mark


def scope_of(endpoint: Callable[..., Any]) -> str | None:
    """The scope declared for `endpoint`; None when nobody declared one."""
    return getattr(endpoint, "__colonnade_scope__", None)


def visible(caller: Caller, owner_team: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """SQL condition: rows whose owner this caller may see."""
    if caller.teams is None:
        return sa.true()
    return owner_team.in_(sorted(caller.teams))


def demand_organization(caller: Caller, what: str) -> None:
    """Refuse a caller that is bound to teams where the thing concerns everybody.

    Raises:
        Forbidden: the caller is bound to teams.
    """
    if not caller.organization_wide:
        raise Forbidden(f"{what} concerns the whole organisation; your key is bound to teams")

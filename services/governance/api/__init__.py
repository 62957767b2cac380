"""HTTP in, HTTP out, by concept. Reads call the store directly."""

from __future__ import annotations

from fastapi import APIRouter

from services.governance.api import (
    acceptances,
    charter,
    controls,
    decisions,
    deployments,
    frameworks,
    policies,
    redteam,
    reviews,
)

ROUTERS: tuple[APIRouter, ...] = (
    controls.router,
    deployments.router,
    frameworks.router,
    policies.router,
    charter.router,
    acceptances.router,
    decisions.router,
    redteam.router,
    reviews.router,
)

"""HTTP in, HTTP out."""

from services.detection.api import (
    alerts,
    assets,
    containments,
    inspections,
    limits,
    otlp,
    performance,
    proposals,
    rules,
    suppressions,
)

# Of two that match a path the first answers: fixed names come before what stands for any id.
ROUTERS = (
    inspections.router,
    performance.router,
    proposals.router,
    rules.router,
    suppressions.router,
    alerts.router,
    containments.router,
    assets.router,
    limits.router,
    otlp.traces_router,
    otlp.logs_router,
)

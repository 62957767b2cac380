"""HTTP in, HTTP out."""

from services.detection.api import (
    alerts,
    containments,
    inspections,
    limits,
    otlp,
    performance,
    proposals,
    rules,
    suppressions,
    telemetry,
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
    telemetry.router,
    limits.router,
    otlp.traces_router,
    otlp.logs_router,
)

"""HTTP in, HTTP out."""

from services.detection.api import alerts, containments, inspections, limits, otlp, rules, telemetry

ROUTERS = (
    inspections.router,
    rules.router,
    alerts.router,
    containments.router,
    telemetry.router,
    limits.router,
    otlp.traces_router,
    otlp.logs_router,
)

"""HTTP in, HTTP out."""

from services.detection.api import alerts, containments, inspections, rules, telemetry

ROUTERS = (inspections.router, rules.router, alerts.router, containments.router, telemetry.router)

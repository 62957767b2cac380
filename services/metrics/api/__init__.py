"""HTTP in, HTTP out: figures, maturity, coverage, series and the board's report. All of it only reads."""

from services.metrics.api.reports import router as reports_router
from services.metrics.api.routes import router as metrics_router

routers = (metrics_router, reports_router)

__all__ = ["routers"]

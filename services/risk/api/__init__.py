"""HTTP in, HTTP out."""

from services.risk.api import assessments, model, portfolio, simulations

ROUTERS = (assessments.router, portfolio.router, simulations.router, model.router)

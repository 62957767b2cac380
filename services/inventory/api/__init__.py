"""HTTP in, HTTP out."""

from services.inventory.api import (
    artifacts,
    assets,
    boms,
    cards,
    classification,
    combinations,
    discovery,
    estate,
    evidence,
    gaps,
    gate,
    graph,
    imports,
)

routers = (
    imports.router,
    assets.router,
    graph.router,
    combinations.router,
    gate.router,
    gaps.router,
    boms.router,
    estate.router,
    cards.router,
    classification.router,
    discovery.router,
    evidence.router,
    artifacts.router,
)

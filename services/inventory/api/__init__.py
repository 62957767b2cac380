"""HTTP in, HTTP out."""

from services.inventory.api import assets, boms, combinations, discovery, evidence, gaps, gate, graph, imports

routers = (
    imports.router,
    assets.router,
    graph.router,
    combinations.router,
    gate.router,
    gaps.router,
    boms.router,
    discovery.router,
    evidence.router,
)

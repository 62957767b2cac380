"""HTTP in, HTTP out."""

from services.inventory.api import assets, boms, discovery, gaps, graph, imports

routers = (imports.router, assets.router, graph.router, gaps.router, boms.router, discovery.router)

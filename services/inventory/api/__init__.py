"""HTTP in, HTTP out."""

from services.inventory.api import artifacts, assets, boms, discovery, gaps, imports

routers = (imports.router, assets.router, gaps.router, boms.router, discovery.router, artifacts.router)

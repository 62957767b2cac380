"""HTTP in, HTTP out."""

from services.inventory.api import assets, boms, discovery, evidence, gaps, imports

routers = (imports.router, assets.router, gaps.router, boms.router, discovery.router, evidence.router)

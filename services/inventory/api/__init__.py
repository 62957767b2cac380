"""HTTP in, HTTP out."""

from services.inventory.api import artifacts, assets, boms, cards, discovery, estate, gaps, imports

routers = (
    imports.router,
    assets.router,
    gaps.router,
    boms.router,
    estate.router,
    cards.router,
    discovery.router,
    artifacts.router,
)

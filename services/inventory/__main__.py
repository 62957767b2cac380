"""`python -m services.inventory`."""

from services.inventory.main import app

app()

"""Whether a run may choose the address of a platform's API."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.inventory.settings import InventorySettings
from shared.errors import Invalid


def check_endpoint(url: str | None, settings: InventorySettings) -> None:
    """Raises Invalid when an address is given and this service takes none, or it is not HTTP."""
    if url is None:
        return
    if not settings.discovery_endpoint_urls:
        raise Invalid("this service does not take addresses of platforms", field="/options/endpoint_url")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise Invalid("an http or https URL is needed", field="/options/endpoint_url")

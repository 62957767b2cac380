"""Whether a run may choose an address, and what an address may be."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from services.inventory.settings import InventorySettings
from shared.errors import Invalid

HTTP = ("http", "https")


def check_address(url: str, field: str, settings: InventorySettings, schemes: Sequence[str] = HTTP) -> None:
    """Refuse an address where this service takes none, and one that no run may name.

    What a run names is stored and shown, so it carries no credential and no query. Link-local addresses are where
    clouds tell a machine its own credentials.

    Raises:
        Invalid: with the field.
    """
    if not settings.discovery_endpoint_urls:
        raise Invalid("this service does not take addresses of platforms", field=field)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        whole = parts.scheme in schemes and host and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise Invalid(f"an {' or '.join(schemes)} URL is needed", field=field)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("an address carries no user, password, query or fragment here", field=field)
    if _is_link_local(host):
        raise Invalid("link-local addresses are not asked", field=field)


def check_endpoint(url: str | None, settings: InventorySettings) -> None:
    """The same for the one address that a platform's options may have. Raises Invalid."""
    if url is not None:
        check_address(url, "/options/endpoint_url", settings)


def _is_link_local(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local

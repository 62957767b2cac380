"""Where webhooks may go: public addresses, looked up once and connected to as looked up.

A name is resolved by us, every address it has is checked, and the connection goes to an address that was checked,
with the name kept for TLS. So a name that answers differently the second time (DNS rebinding) gains nothing, and a
redirect is not followed. What else than public addresses is reachable is named in the settings; the platform's own
ports never are, for a webhook posts there with our feet what its author may not.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.incidents.domain.webhooks import WebhookUrlRefused
from shared import telemetry

URL_LIMIT = 2_000
ANSWER_LIMIT_BYTES = 2_000
_LOOKUP_SECONDS = 3.0

# Address families that carry an IPv4 address inside: it is that one which has to be public.
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class AddressRefused(OSError):
    """A name resolves to an address that webhooks may not go to.

    Which address is for the log alone: told to whoever names a host, it would map the network inside.
    """


@dataclass(frozen=True, slots=True)
class Reach:
    """Where webhooks may go beside public addresses.

    Attributes:
        loopback: this machine, also over plain http.
        networks: addresses inside that somebody named.
        own_ports: where the platform itself listens: at no inside address are they reachable.
    """

    loopback: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    own_ports: frozenset[int] = frozenset()

    def allows(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        """Whether a webhook may be delivered to this address.

        `is_global` alone is not enough: it holds for multicast, and for IPv6 forms that lead to an IPv4 address.
        """
        if isinstance(address, IPv6Address):
            inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
            if inner is not None:
                return self.allows(inner, port) and address.ipv4_mapped is not None
            if any(address in network for network in _NAT64):
                return False
        if (address.is_loopback and self.loopback) or any(address in network for network in self.networks):
            return port not in self.own_ports
        return address.is_global and not address.is_multicast and not address.is_reserved

    def check_url(self, url: str) -> SplitResult:
        """The parts of a URL that webhooks may go to, as far as it can be told without looking its name up.

        Raises:
            WebhookUrlRefused: with what is wrong with it.
        """
        if len(url) > URL_LIMIT or any(character.isspace() or ord(character) < 0x21 for character in url):
            raise _refuse("is too long or holds white space")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _refuse(f"cannot be read: {error}") from error
        host = parts.hostname
        if not host:
            raise _refuse("names no host")
        if parts.username is not None or parts.password is not None:
            raise _refuse("holds a user name or password; the signature authenticates us")
        if parts.fragment:
            raise _refuse("has a fragment")
        try:
            literal: IPv4Address | IPv6Address | None = ip_address(host)
        except ValueError:
            literal = None
        local = host == "localhost" or host.endswith(".localhost") or (literal is not None and literal.is_loopback)
        if parts.scheme != "https" and not (parts.scheme == "http" and local and self.loopback):
            raise _refuse("is not https")
        if local and not self.loopback and literal is None:
            raise _refuse("leads to this machine")
        if local and port_of(parts) in self.own_ports:
            raise _refuse("leads to the platform itself")
        if literal is not None and not self.allows(literal, port_of(parts)):
            raise _refuse("leads to an address that is not public")
        if literal is None and not _is_name(host):
            raise _refuse("has a host that is no domain name")
        if port is not None and port not in (80, 443) and port < 1_024:
            raise _refuse(f"has the port {port}, which is no web server's")
        return parts


def _refuse(reason: str) -> WebhookUrlRefused:
    return WebhookUrlRefused(f"the URL {reason}", field="/url")


def port_of(parts: SplitResult) -> int:
    """The port that a URL leads to, named or not."""
    return parts.port or (80 if parts.scheme == "http" else 443)


def _is_name(host: str) -> bool:
    """A domain name, its last label not a number: `0x7f.1` and `2130706433` are addresses to some resolvers."""
    try:
        labels = host.encode("idna").decode().rstrip(".").split(".")
    except UnicodeError:
        return False
    last = labels[-1]
    return not (last.isdigit() or last.startswith("0x")) and all(
        0 < len(label) <= 63 and all(c.isalnum() or c in "-_" for c in label) for label in labels
    )


class CheckedResolver(AbstractResolver):
    """Resolves a name and gives its addresses only if webhooks may go to every one of them."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await asyncio.wait_for(
            loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family), _LOOKUP_SECONDS
        )
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            text = str(address[0])
            if not self._reach.allows(ip_address(text.partition("%")[0]), port):
                telemetry.logger().warning("webhook_address_refused", host=host, address=text)
                raise AddressRefused("the name leads to an address that is not public")
            results.append(
                ResolveResult(
                    hostname=host, host=text, port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a subscriber answered, as far as anyone wants to know."""

    status: int
    text: str


class Outbound:
    """Sends webhooks."""

    def __init__(self, reach: Reach, *, timeout_seconds: float) -> None:
        self._reach = reach
        self._resolver = CheckedResolver(reach)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=min(5.0, timeout_seconds))
        self._session: aiohttp.ClientSession | None = None

    async def check(self, url: str) -> None:
        """Refuse a URL that webhooks may not go to; a name that does not resolve now may do so later.

        Raises:
            WebhookUrlRefused: with what is wrong with it.
        """
        parts = self._reach.check_url(url)
        try:
            await self._resolver.resolve(parts.hostname or "", port_of(parts))
        except AddressRefused as error:
            raise _refused_by(error) from error
        except (OSError, asyncio.TimeoutError, UnicodeError):
            return

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        """Deliver a body.

        Raises:
            WebhookUrlRefused: the URL, or what its name resolves to now, is not allowed.
            OSError, aiohttp.ClientError, asyncio.TimeoutError: there was no answer.
        """
        self._reach.check_url(url)
        if self._session is None:
            # No DNS cache and no connection kept: what was allowed a minute ago is looked at again.
            connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, force_close=True, limit=32)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=_no_cookies())
        try:
            async with self._session.post(
                url,
                data=body,
                headers={"user-agent": "colonnade-webhooks/1", **headers},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                text = await response.content.read(ANSWER_LIMIT_BYTES)
                return Reply(response.status, text.decode("utf-8", "replace"))
        except aiohttp.ClientConnectorError as error:
            # What a resolver raises comes wrapped, as if the subscriber were merely down.
            if isinstance(error.os_error, AddressRefused):
                raise _refused_by(error.os_error) from error
            raise

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _refused_by(error: AddressRefused) -> WebhookUrlRefused:
    return WebhookUrlRefused(str(error), field="/url")


def _no_cookies() -> Any:
    return aiohttp.DummyCookieJar()

"""Servers that are asked over HTTP: which of them a run may ask, and how to ask without being led astray."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from pydantic import Field, StringConstraints

from services.inventory.connectors.addresses import HTTP, check_address
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In

if TYPE_CHECKING:
    import httpx

ANSWER_LIMIT_BYTES = 16_777_216
PAGES_LIMIT = 10_000
TIMEOUT_SECONDS = 20.0
TRIES = 3
RETRY_LIMIT_SECONDS = 10.0
"""Longest that a server's Retry-After is followed."""
_AGAIN = frozenset({429, 502, 503, 504})


class PlatformError(Exception):
    """A server could not be reached, refused, or answered what makes no sense; the words are for a person."""


class Targets(In):
    """Which servers to ask."""

    targets: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...],
        Field(max_length=50, description="Names of servers in the service's INVENTORY_DISCOVERY_TARGETS."),
    ] = ()
    urls: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=2_048)], ...],
        Field(max_length=50, description="Addresses, asked without credentials, where this service allows it."),
    ] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One server: `url` with what it needs to be reached, `shown` without."""

    url: str
    shown: str
    headers: Mapping[str, str]
    ca_file: str | None = None
    name: str = ""

    @property
    def scope(self) -> str:
        """What its listings are known by: two credentials at one address may be shown different things."""
        return f"{self.name}: {self.shown}" if self.name else self.shown


def check_targets(options: Targets, settings: InventorySettings, schemes: Sequence[str] = HTTP) -> None:
    """Raises Invalid for a target that is not configured, an address where none is taken, or one of another kind."""
    if not options.targets and not options.urls:
        raise Invalid("name at least one of targets or urls", field="/options/targets")
    for position, name in enumerate(options.targets):
        if name not in settings.discovery_targets:
            raise Invalid(
                f"there is no discovery target {name!r} in the settings", field=f"/options/targets/{position}"
            )
    for position, url in enumerate(options.urls):
        check_address(url, f"/options/urls/{position}", settings, schemes)


def targets_of(options: Targets, settings: InventorySettings) -> list[Target]:
    """The servers that a run asks."""
    chosen = [(name, one) for name in options.targets if (one := settings.discovery_targets.get(name)) is not None]
    made = [
        Target(
            url=(url := one.url.get_secret_value()).rstrip("/"),
            shown=_shown(url),
            headers={name: value.get_secret_value() for name, value in one.headers.items()},
            ca_file=str(one.ca_file) if one.ca_file else None,
            name=name,
        )
        for name, one in chosen
    ]
    return made + [Target(url.rstrip("/"), _shown(url), {}) for url in options.urls]


def _shown(url: str) -> str:
    """An address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


class Api:
    """A server's JSON API."""

    def __init__(self, target: Target, client: httpx.AsyncClient) -> None:
        self.target = target
        self._client = client

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises PlatformError."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Any) -> Any:
        """The same for calls that read by POST. Raises PlatformError."""
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **sent: Any) -> Any:
        import httpx

        for attempt in range(1, TRIES + 1):
            try:
                async with self._client.stream(method, self.target.url + path, **sent) as answer:
                    if answer.status_code in _AGAIN and attempt < TRIES:
                        await asyncio.sleep(_wait_seconds(answer, attempt))
                        continue
                    return await _read(answer)
            except httpx.InvalidURL as error:
                raise PlatformError(f"its address makes no sense: {error}") from error
            except httpx.HTTPError as error:
                if attempt == TRIES or not isinstance(error, httpx.TransportError):
                    raise PlatformError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
                await asyncio.sleep(0.2 * attempt)
        raise PlatformError("it kept refusing")


def _wait_seconds(answer: httpx.Response, attempt: int) -> float:
    try:
        asked = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        asked = 0.2 * 2**attempt
    return min(max(asked, 0.0), RETRY_LIMIT_SECONDS)


async def _read(answer: httpx.Response) -> Any:
    if answer.is_redirect:
        # Followed, a redirect would decide for us whom the credentials are shown to.
        raise PlatformError(f"HTTP {answer.status_code}: it redirects elsewhere; configure that address instead")
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > ANSWER_LIMIT_BYTES:
            raise PlatformError(f"its answer is larger than {ANSWER_LIMIT_BYTES} bytes")
    if answer.status_code >= 400:
        words = bytes(body[:300]).decode(errors="replace").strip()
        raise PlatformError(f"HTTP {answer.status_code} {answer.reason_phrase}: {words}".rstrip(": "))
    try:
        return orjson.loads(body)
    except ValueError:
        raise PlatformError("its answer is no JSON") from None


@asynccontextmanager
async def asking(target: Target) -> AsyncIterator[Api]:
    """The server's API, for as long as the block lasts."""
    import httpx  # only a service that looks at such servers has a use for it; it takes a tenth of a second to import

    verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True
    limits = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(
        headers={"Accept": "application/json", **target.headers},
        timeout=TIMEOUT_SECONDS,
        verify=verify,
        limits=limits,
        trust_env=False,
    ) as client:
        yield Api(target, client)


async def ask_each(
    options: Targets,
    settings: InventorySettings,
    harvest: Harvest,
    what: str,
    read: Callable[[Api, Scope], Awaitable[None]],
    failures: tuple[type[Exception], ...] = (PlatformError,),
) -> None:
    """Let `read` report what each server has; each is a scope of its own, and fails for itself."""
    for target in targets_of(options, settings):
        name = f"{target.scope}{what}"
        if not harvest.is_read(name):
            async with harvest.scope(name, failures=failures, where=name) as scope, asking(target) as api:
                await read(api, scope)


def listed(answer: Any, *keys: str) -> list[dict[str, Any]]:
    """The list of objects that lies below those keys.

    Raises:
        PlatformError: there is none: an answer that makes no sense is no empty list.
    """
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise PlatformError(f"its answer has no list of objects at {'.'.join(keys) or 'its top'}")
    return answer


async def pages(
    read: Callable[[str | None], Awaitable[tuple[list[dict[str, Any]], str | None]]],
) -> AsyncIterator[dict[str, Any]]:
    """Entries of page after page; `read` takes the token of a page, None for the first, and gives the next one's.

    Raises:
        PlatformError: a token came a second time, or pages do not end.
    """
    token: str | None = None
    tokens: set[str] = set()
    for _ in range(PAGES_LIMIT):
        entries, token = await read(token)
        for entry in entries:
            yield entry
        if not token:
            return
        if token in tokens:
            raise PlatformError("it repeats a page's token, so its listing has no end")
        tokens.add(token)
    raise PlatformError(f"its listing has more than {PAGES_LIMIT} pages")


def text(entry: Mapping[str, Any], *keys: str) -> str | None:
    """The text at the first of those keys that has one."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None

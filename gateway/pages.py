"""What the gateway shows to anyone: readiness of the whole, the API's description, and a page to read it.

The page is ours, 200 lines of plain script and style: the ready-made ones come from a CDN or bring megabytes, and want
`unsafe-inline`. Here the policy allows nothing but our own files.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway import openapi
from gateway.problems import Headers, Problem
from gateway.upstream import Upstream, UpstreamError
from shared import telemetry

_READY_SECONDS = 2.0
_READY_CACHE_SECONDS = 0.5
_DOCUMENT_SECONDS = 10.0
_REFRESH_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_MAX_DOCUMENT_BYTES = 8 << 20
_STATIC = Path(__file__).parent / "static"
_CSP = (
    b"content-security-policy",
    (
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
)
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_ASSETS = {
    b"/docs/docs.js": ("docs.js", b"text/javascript; charset=utf-8"),
    b"/docs/docs.css": ("docs.css", b"text/css; charset=utf-8"),
}
_TITLE = "Colonnade"
_DESCRIPTION = (
    "An organisation's AI security program as a running system: inventory, risk, detection, incidents, governance, "
    "metrics. Send `Authorization: Bearer <API key or token>`. Errors are RFC 9457 problems."
)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes


class Pages:
    """The public pages.

    Args:
        own_readiness: the gateway's own dependencies -> "ok" or what is wrong.
        own_document: the OpenAPI document of /v1/access.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        own_readiness: Callable[[], Awaitable[dict[str, str]]],
        own_document: Callable[[], dict[str, Any]],
    ) -> None:
        self._upstreams = upstreams
        self._own_readiness = own_readiness
        self._own_document = own_document
        self._ready: tuple[float, Answer] | None = None
        self._judging = asyncio.Lock()
        self._documents: dict[str, dict[str, Any]] = {}
        self._fetched_at: dict[str, float] = {}
        self._fetching = asyncio.Lock()
        self._merged: tuple[bytes, bytes] | None = None  # document, entity tag

    async def answer(self, method: str, path: bytes, query: bytes, headers: Headers) -> Answer:
        """The page at `path`.

        Raises:
            Problem: 404 or 405.
        """
        pages = {b"/": self._index, b"/docs": self._docs, b"/readyz": self._readyz, b"/openapi.json": self._openapi}
        page = pages.get(path)
        asset = _ASSETS.get(path)
        if page is None and asset is None:
            raise Problem(404, "not-found", "No such thing, or none that you may know of.", "nothing is offered here")
        if method not in ("GET", "HEAD"):
            allow = [(b"allow", b"GET, HEAD")]
            raise Problem(405, "method", "This method is not offered here.", "only GET is offered", headers=allow)
        if page is not None:
            return await page(query, headers)
        assert asset is not None
        return _static(*asset)

    async def _index(self, _query: bytes, headers: Headers) -> Answer:
        if any(name == b"accept" and b"text/html" in value for name, value in headers):
            return Answer(303, [(b"location", b"/docs"), _NO_STORE], b"")
        links = {
            "name": _TITLE,
            "documentation": "/docs",
            "openapi": "/openapi.json",
            "health": "/readyz",
            "api": "/v1",
        }
        return Answer(200, [_JSON], orjson.dumps(links))

    async def _docs(self, _query: bytes, _headers: Headers) -> Answer:
        page = _static("docs.html", b"text/html; charset=utf-8")
        return Answer(200, [*page.headers, _CSP, (b"referrer-policy", b"no-referrer")], page.body)

    # readiness

    async def _readyz(self, query: bytes, _headers: Headers) -> Answer:
        if query == b"only=gateway":  # for a load balancer: one service being down is no reason to take the gateway out
            own = await self._own_readiness()
            return _readiness({"gateway": own})
        async with self._judging:
            if self._ready is None or time.monotonic() - self._ready[0] > _READY_CACHE_SECONDS:
                names = list(self._upstreams)
                found = await asyncio.gather(self._own_readiness(), *(self._probe(name) for name in names))
                self._ready = (time.monotonic(), _readiness(dict(zip(["gateway", *names], found, strict=True))))
            return self._ready[1]

    async def _probe(self, name: str) -> dict[str, str]:
        try:
            status, body = await _get(self._upstreams[name], b"/readyz", _READY_SECONDS)
        except UpstreamError as error:
            return {"http": "does not answer in time" if error.kind == "silent" else "cannot be reached"}
        try:
            checks = orjson.loads(body)["checks"]
            told = {str(check): str(state) for check, state in checks.items()}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return {"http": f"answered {status}"}
        return (
            told if status == 200 or any(state != "ok" for state in told.values()) else {"http": f"answered {status}"}
        )

    # description

    async def _openapi(self, _query: bytes, headers: Headers) -> Answer:
        await self._fetch_documents()
        assert self._merged is not None
        body, tag = self._merged
        complete = set(self._documents) >= set(self._upstreams)
        cache = (b"cache-control", b"no-cache" if complete else b"no-store")
        if any(name == b"if-none-match" and tag in value for name, value in headers):
            return Answer(304, [(b"etag", tag), cache], b"")
        return Answer(200, [_JSON, (b"etag", tag), cache], body)

    async def _fetch_documents(self) -> None:
        """Fetch what is missing or older than a minute; a service that is down keeps its last description."""
        async with self._fetching:
            now = time.monotonic()
            due = []
            for name in self._upstreams:
                age = now - self._fetched_at.get(name, -_REFRESH_SECONDS)
                if age >= (_REFRESH_SECONDS if name in self._documents else _RETRY_SECONDS):
                    due.append(name)
                    self._fetched_at[name] = now
            changed = [name for name in await asyncio.gather(*(self._fetch_document(name) for name in due)) if name]
            if self._merged is None or changed:
                present = {name: self._documents[name] for name in self._upstreams if name in self._documents}
                present["gateway"] = self._own_document()
                merged = openapi.merge(present, title=_TITLE, version="1.0", description=_DESCRIPTION)
                body = orjson.dumps(merged)
                self._merged = (body, b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode())

    async def _fetch_document(self, name: str) -> str | None:
        try:
            status, body = await _get(self._upstreams[name], b"/openapi.json", _DOCUMENT_SECONDS)
            document = orjson.loads(body) if status == 200 else None
        except (UpstreamError, orjson.JSONDecodeError) as error:
            telemetry.logger().warning("description_unreadable", peer=name, error=repr(error))
            return None
        if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
            telemetry.logger().warning("description_unreadable", peer=name, error=f"HTTP {status}")
            return None
        if document == self._documents.get(name):
            return None
        self._documents[name] = document
        return name


async def _get(upstream: Upstream, path: bytes, seconds: float) -> tuple[int, bytes]:
    connection = await upstream.request(
        "GET",
        b"GET %b HTTP/1.1\r\nhost: %b\r\naccept: application/json\r\n\r\n" % (path, upstream.host),
        b"",
        repeatable=True,
        first_byte_seconds=seconds,
        idle_seconds=seconds,
        total_seconds=seconds,
    )
    try:
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            part, more = await connection.read()
            parts.append(part)
            size += len(part)
            if size > _MAX_DOCUMENT_BYTES:
                raise UpstreamError("malformed", "the answer is too large")
        return connection.status, b"".join(parts)
    finally:
        if connection.busy:
            connection.abort()


def _readiness(services: dict[str, dict[str, str]]) -> Answer:
    judged = {
        name: {"status": "ok" if all(state == "ok" for state in checks.values()) else "not ready", "checks": checks}
        for name, checks in services.items()
    }
    ready = all(service["status"] == "ok" for service in judged.values())
    body = orjson.dumps({"status": "ok" if ready else "not ready", "services": judged})
    headers = [_JSON, _NO_STORE, *([] if ready else [(b"retry-after", b"2")])]
    return Answer(200 if ready else 503, headers, body)


def _static(name: str, content_type: bytes) -> Answer:
    return Answer(
        200, [(b"content-type", content_type), (b"cache-control", b"no-cache")], (_STATIC / name).read_bytes()
    )

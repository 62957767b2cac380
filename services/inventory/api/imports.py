"""POST /v1/assets/import: newline-delimited JSON in, one result line each out, both as streams.

Lines are read, checked and stored a batch at a time while the client is still sending, and results go out as batches
are committed. The client's sending is slowed to the pace of storing. Its reading is not waited for: many clients send
everything before they read anything, and to wait for them would be to wait for ever. What they have not read yet lies
in a spool, which beyond a bound is a file. An import whose spool fills, or that has more refused lines than make sense,
is ended: its last result says so, and from that line on nothing was stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import uuid_utils.compat as uuid_utils
from fastapi import Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.inventory.api.models import NewAsset
from services.inventory.api.spool import Spool
from services.inventory.application.imports import Result, register_assets
from services.inventory.domain.asset import Asset, register
from shared import telemetry
from shared.auth import Caller, requires
from shared.database import is_outage
from shared.errors import DomainError, Invalid, TooLarge, Unavailable
from shared.http import MalformedJson
from shared.problems import BODY, data_error, document_of, field_errors
from shared.runtime import Runtime
from shared.service import router as make_router
from shared.strictjson import NotStrictJson, loads

router = make_router("/v1/assets", "assets")

MEDIA_TYPE = "application/x-ndjson"
_ACCEPTED = frozenset({MEDIA_TYPE, "application/ndjson", "application/jsonl"})
LINE_LIMIT_BYTES = 65_536
BATCH_LINES = 500
BATCH_BYTES = 4_194_304
IDLE_SECONDS = 0.05
"""A batch that is not full is stored when the client pauses this long."""
STALL_SECONDS = 60.0
"""A client that sends nothing for this long has its import ended."""
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between tries of a batch while the database is away; after the last the batch's lines fail."""

_validate = NewAsset.__pydantic_validator__.validate_python


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the input, or why it could not even be read."""

    number: int
    content: bytes | DomainError


class ImportStalled(Invalid):
    """The sender paused for too long."""


class TooManyRefused(Invalid):
    """Too many lines were refused."""


class _Splitter:
    """Cuts the incoming bytes into lines; a line that is too long is passed over without being kept."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._skipping = False

    def feed(self, part: bytes) -> list[_Line]:
        """The lines that `part` completes; blank ones are counted and left out."""
        *complete, self._rest = (self._rest + part).split(b"\n") if self._rest else part.split(b"\n")
        found = []
        for text in complete:
            self._number += 1
            if self._skipping or len(text) > LINE_LIMIT_BYTES:
                self._skipping = False
                found.append(_Line(self._number, TooLarge(f"a line may hold at most {LINE_LIMIT_BYTES} bytes")))
            elif text and not text.isspace():
                found.append(_Line(self._number, text))
        if len(self._rest) > LINE_LIMIT_BYTES:
            self._rest, self._skipping = b"", True
        return found

    def end(self) -> list[_Line]:
        """The last line, when no newline ended it."""
        return self.feed(b"\n") if self._rest or self._skipping else []

    def cut(self, refusal: DomainError) -> _Line:
        """In place of everything that is not read any more."""
        return _Line(self._number + 1, refusal)


class _Import:
    """One import from its first byte to its last result."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._caller: Caller = request.state.caller
        self._runtime: Runtime = request.app.state.runtime
        self.spool = Spool()
        self._refused = 0

    async def run(self) -> None:
        """Read, check, store and tell, one batch being stored while the next is read and checked."""
        storing: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._batches()) as batches:
                async for lines in batches:
                    checked = await self._check(lines)
                    if storing is not None:
                        await storing
                    if (excess := self._excess()) is not None:
                        checked = [(checked[0][0], excess)]
                    storing = asyncio.create_task(self._store(checked))
                    if excess is not None:
                        break
            if storing is not None:
                await storing
        except ClientDisconnect:
            if storing is not None:
                await storing
        finally:
            if storing is not None and not storing.done():
                storing.cancel()
            self.spool.end()

    def _excess(self) -> DomainError | None:
        """Why to go no further, as far as what was stored shows; so it is noticed a batch late."""
        settings = self._runtime.settings
        if self._refused >= settings.import_refused_limit:
            return TooManyRefused(f"{self._refused} lines were refused; from this one on nothing was stored")
        if self.spool.size >= settings.import_spool_limit_bytes:
            return TooLarge("too many results lie unread; from this line on nothing was stored")
        return None

    async def _batches(self) -> AsyncGenerator[list[_Line]]:
        splitter = _Splitter()
        limit = self._runtime.settings.import_limit_bytes
        lines: list[_Line] = []
        received = held = 0
        end: _Line | None = None
        async with aclosing(_parts(self._request)) as parts:
            async for part in parts:
                if part is None:
                    end = splitter.cut(ImportStalled(f"nothing came for {STALL_SECONDS:g} s"))
                    break
                received += len(part)
                held += len(part)
                if received > limit:
                    end = splitter.cut(TooLarge(f"an import may hold at most {limit} bytes"))
                    break
                lines += splitter.feed(part)
                # An empty part says that the client pauses.
                while lines and (not part or len(lines) >= BATCH_LINES or held > BATCH_BYTES):
                    yield lines[:BATCH_LINES]
                    del lines[:BATCH_LINES]
                    held = 0
        lines += splitter.end() if end is None else [end]
        while lines:
            yield lines[:BATCH_LINES]
            del lines[:BATCH_LINES]

    async def _check(self, lines: Sequence[_Line]) -> list[tuple[int, Asset | DomainError]]:
        now = datetime.now(UTC)
        checked: list[tuple[int, Asset | DomainError]] = []
        for position, line in enumerate(lines):
            if position % 50 == 49:
                # Checking 500 lines takes some 15 ms, which others' requests should not have to wait for at a stretch.
                await asyncio.sleep(0)
            checked.append((line.number, _asset_of(line, self._caller.subject, now)))
        return checked

    async def _store(self, checked: Sequence[tuple[int, Asset | DomainError]]) -> None:
        assets = [asset for _, asset in checked if isinstance(asset, Asset)]
        stored = iter(await self._register(assets) if assets else ())
        results = [(number, next(stored) if isinstance(item, Asset) else item) for number, item in checked]
        self._refused += sum(isinstance(result, DomainError) for _, result in results)
        self.spool.write(b"".join(_told(number, result) for number, result in results))

    async def _register(self, assets: list[Asset]) -> Sequence[Result]:
        """Store a batch, waiting out a short absence of the database; ids are fixed, so a try that was committed
        although we saw it fail is recognised by the next."""
        for pause in (*RETRY_SECONDS, None):
            try:
                async with self._runtime.db.begin() as tx:
                    return await register_assets(tx, self._caller, assets, assets[0].registered_date)
            except Exception as error:
                if not is_outage(error):
                    return await self._divide(assets, error)
                telemetry.logger().warning("import_waits", error=repr(error))
                if pause is None:
                    break
                await asyncio.sleep(pause)
        return [Unavailable("the database cannot be reached or is too busy") for _ in assets]

    async def _divide(self, assets: list[Asset], error: Exception) -> Sequence[Result]:
        """Find the lines whose data the database refuses, so that they fail alone."""
        refusal = data_error(error)
        if refusal is None:
            raise error
        if len(assets) == 1:
            return [refusal]
        half = len(assets) // 2
        return [*await self._register(assets[:half]), *await self._register(assets[half:])]


async def _parts(request: Request) -> AsyncGenerator[bytes | None]:
    """The body as it comes, an empty part when the client pauses for IDLE_SECONDS, None when for STALL_SECONDS."""
    stream = request.stream()
    coming: asyncio.Task[bytes | None] = asyncio.create_task(_next(stream))
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=IDLE_SECONDS)
            if not done:
                yield b""
                done, _ = await asyncio.wait([coming], timeout=STALL_SECONDS)
                if not done:
                    yield None
                    return
            part = coming.result()
            if part is None:
                return
            coming = asyncio.create_task(_next(stream))
            if part:
                yield part
    finally:
        coming.cancel()


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)


def _asset_of(line: _Line, subject: str, now: datetime) -> Asset | DomainError:
    if isinstance(line.content, DomainError):
        return line.content
    try:
        body = _validate(loads(line.content))
        return register(uuid_utils.uuid7(), body.declared(), by=subject, at=now)
    except NotStrictJson as error:
        return MalformedJson(f"the line cannot be read: {error}", field=error.pointer or BODY)
    except ValidationError as error:
        fields = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        return Invalid(f"{fields[0]['field']}: {fields[0]['message']}", errors=fields)
    except DomainError as refusal:
        return refusal


def _told(number: int, result: Result) -> bytes:
    if isinstance(result, DomainError):
        told: dict[str, Any] = {"line": number, "status": "failed", "asset_id": None, "problem": document_of(result)}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    asset_id, created = result
    status = "created" if created else "existing"
    return f'{{"line":{number},"status":"{status}","asset_id":"{asset_id}"}}\n'.encode()


class _ImportResponse(Response):
    """Sends results while the request's body is still being read, which StreamingResponse cannot: it listens for the
    client's leaving on the channel that brings the body."""

    def __init__(self, importing: _Import) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._importing = importing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spool = self._importing.spool
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        reading = asyncio.create_task(self._importing.run())
        try:
            async with aclosing(spool.parts()) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await reading
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            spool.close()


_LINE = {
    "type": "object",
    "required": ["line", "status", "asset_id"],
    "properties": {
        "line": {"type": "integer", "description": "Number of the input line, from 1."},
        "status": {"enum": ["created", "existing", "failed"]},
        "asset_id": {"type": ["string", "null"], "format": "uuid"},
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
}


@router.post(
    "/import",
    response_class=Response,
    responses={200: {"description": "A result for each line, in order.", "content": {MEDIA_TYPE: {"schema": _LINE}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            # No type: a line that is no asset is answered by a line, never by refusing the whole.
            "content": {MEDIA_TYPE: {"schema": {"description": "A NewAsset object on each line."}}},
        }
    },
)
@requires("inventory:write")
async def import_assets(request: Request) -> Response:
    """Register many assets: newline-delimited JSON, an asset a line (at most 64 KB), in a body of any length.

    Each line is answered by one line, in order, while the rest is still being read. A line that is refused fails alone.
    Sending the same lines again is harmless: what is there is `existing`. There is no Idempotency-Key, because what was
    stored before a connection broke stays stored. After too many refused lines, or with too many results unread, the
    import ends: its last result says so, and from that line on nothing was stored.
    """
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type not in _ACCEPTED:
        raise HTTPException(415, f"send {MEDIA_TYPE}")
    return _ImportResponse(_Import(request))

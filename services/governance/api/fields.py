"""Fields that several requests have, and how they are read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, Strict, StringConstraints

from services.governance.domain.documents import Line, Mappings
from services.governance.shipped import library
from services.governance.store import assets
from shared.errors import PreconditionFailed
from shared.models import Visible
from shared.work import UnitOfWork

# pydantic reads more than ISO 8601: numbers, and digits in text, as seconds since 1970. What we write is what we read.
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*")


def _iso_day(value: Any) -> Any:
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise ValueError("a day is written YYYY-MM-DD")
    return value


def _iso_moment(value: Any) -> Any:
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise ValueError("a moment is written as RFC 3339 has it, e.g. 2026-11-22T10:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it lies outside of the years 1 to 9999 in UTC") from error


Day = Annotated[date, BeforeValidator(_iso_day, json_schema_input_type=date)]
Moment = Annotated[
    AwareDatetime, BeforeValidator(_iso_moment, json_schema_input_type=AwareDatetime), AfterValidator(_in_utc)
]
Flag = Annotated[bool, Strict()]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000), Visible]
Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]


def ids_of(*framework_ids: str) -> dict[str, Any]:
    """JSON Schema of a list of ids of these frameworks; the document then says what exists."""
    ids = [entry.id for framework_id in framework_ids for entry in library().frameworks[framework_id].entries]
    return {"items": {"type": "string", "enum": ids}}


def _mapped(framework_id: str) -> Any:
    return Field(default=(), max_length=100, json_schema_extra=ids_of(framework_id))


class MappingsIn(Mappings):
    """Framework entries that it answers to."""

    owasp_llm_2025: tuple[Line, ...] = _mapped("owasp_llm_2025")
    owasp_llm_2026: tuple[Line, ...] = _mapped("owasp_llm_2026")
    owasp_agentic: tuple[Line, ...] = _mapped("owasp_agentic_2026")
    atlas: tuple[Line, ...] = _mapped("mitre_atlas")
    nist_ai_rmf: tuple[Line, ...] = _mapped("nist_ai_rmf")
    iso_42001: tuple[Line, ...] = _mapped("iso_42001")
    eu_ai_act: tuple[Line, ...] = _mapped("eu_ai_act")


async def _maybe_if_match(
    if_match: Annotated[str | None, Header(description="The ETag that the decision is about; any if absent.")] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    tag = if_match.strip().strip('"')
    if not tag.isascii() or not tag.isdigit() or len(tag) > 18:
        raise PreconditionFailed(f"{if_match!r} is no ETag of this resource")
    return int(tag)


MaybeIfMatch = Annotated[int | None, Depends(_maybe_if_match)]
"""Version that a decision is about, where the state itself keeps two deciders apart; None when not said."""


async def await_assets(work: UnitOfWork, asset_ids: Collection[UUID]) -> None:
    """Give assets that were registered a moment ago the time to be announced here.

    Inventory answers a registration before its event arrives here, some tens of milliseconds later, and a pipeline goes
    on at once. What is still unknown after `asset_wait_seconds` is refused by the use case; an asset of another team
    takes as long as one that does not exist.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + work.runtime.settings.asset_wait_seconds
    while asset_ids and not await work.read(lambda tx: assets.known(tx, work.caller, asset_ids)):
        if loop.time() >= deadline:
            return
        await asyncio.sleep(0.025)

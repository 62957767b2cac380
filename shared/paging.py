"""Keyset paging: an opaque, signed cursor says after which row the next page starts.

A cursor is bound to its list and to the filters it was made under; used elsewhere it is refused rather than misread.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request

from shared.errors import Invalid

LIMIT = 200


class UnknownCursor(Invalid):
    """The cursor is not one of ours for this list."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """How much of a list was asked for, and after which row.

    Attributes:
        limit: rows wanted, 1 to 200. Read one more to learn whether there is a next page.
        after: values of the sort columns of the row before, as JSON scalars; None on the first page.
    """

    limit: int
    after: tuple[Any, ...] | None
    _secret: bytes
    _list: bytes

    def cursor(self, *values: Any) -> str:
        """The cursor of the page after the row whose sort columns hold `values` (JSON scalars, UUIDs, datetimes)."""
        body = orjson.dumps(values, default=str)
        return urlsafe_b64encode(_sign(self._secret, self._list, body) + body).decode().rstrip("=")

    def cut(self, rows: Sequence[Any], *sort_columns: str) -> tuple[list[Any], str | None]:
        """The rows of this page out of up to limit + 1, and the cursor of the next if there is one."""
        if len(rows) <= self.limit:
            return list(rows), None
        last = rows[self.limit - 1]
        return list(rows[: self.limit]), self.cursor(*(getattr(last, column) for column in sort_columns))


def _sign(secret: bytes, list_name: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, list_name + b"\0" + body, "sha256")[:12]


def _decode(secret: bytes, list_name: bytes, cursor: str) -> tuple[Any, ...]:
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        mark, body = raw[:12], raw[12:]
        if not hmac.compare_digest(mark, _sign(secret, list_name, body)):
            raise ValueError("signature")
        return tuple(orjson.loads(body))
    except (ValueError, TypeError) as error:
        raise UnknownCursor("the cursor is unknown here; start without one", field="cursor") from error


def page_up_to(most: int, default: int) -> Any:
    """The dependency behind `Page`, for a list whose items are small enough to be sent by the thousand."""

    async def page(
        request: Request,
        limit: int = Query(default, ge=1, le=most, description="Items a page."),
        cursor: str | None = Query(
            None, max_length=1_000, description="`next_cursor` of the page before, under the same filters."
        ),
    ) -> PageRequest:
        secret: bytes = request.app.state.runtime.cursor_key
        filters = sorted(
            (name, value) for name, value in request.query_params.multi_items() if name not in ("limit", "cursor")
        )
        list_name = hashlib.sha256(orjson.dumps([request.url.path, filters])).digest()
        after = _decode(secret, list_name, cursor) if cursor else None
        return PageRequest(limit, after, secret, list_name)

    return Depends(page)


Page = Annotated[PageRequest, page_up_to(LIMIT, 50)]
"""A list endpoint's parameter: adds `limit` and `cursor` to its query."""

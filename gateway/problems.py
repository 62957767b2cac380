"""RFC 9457 problems as bytes, for answers that the gateway gives itself without building a framework's response."""

from __future__ import annotations

from typing import Any

import orjson

Headers = list[tuple[bytes, bytes]]

#: Same rule as the services': one stable URI for each kind of problem.
TYPE_PREFIX = "urn:colonnade:problem:"
CONTENT_TYPE = (b"content-type", b"application/problem+json")


class Problem(Exception):
    """The gateway's own refusal of a request.

    Args:
        kind: stable kebab-case name; clients may branch on it.
        retry_after_seconds: becomes `Retry-After`.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        retry_after_seconds: int | None = None,
        headers: Headers | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers: Headers = list(headers or ())
        if retry_after_seconds is not None:
            self.headers.append((b"retry-after", b"%d" % retry_after_seconds))
        self.extra = extra

    def render(self, trace_id: str) -> tuple[Headers, bytes]:
        """Response headers (with `content-length`) and body."""
        body = orjson.dumps(
            {
                "type": TYPE_PREFIX + self.kind,
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "trace_id": trace_id,
                **self.extra,
            }
        )
        headers = [
            CONTENT_TYPE,
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]
        return headers, body


def bad_request(detail: str) -> Problem:
    return Problem(400, "bad-request", "The request is not well formed.", detail)


def too_large(limit_bytes: int) -> Problem:
    return Problem(
        413, "too-large", "The request is larger than allowed.", f"the body may hold at most {limit_bytes} bytes here"
    )

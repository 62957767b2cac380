"""What of a client's headers reaches a service, and what of a service's headers reaches a client: two allow-lists.

Deny-lists lost: `X-Forwarded_User` (underscore read as hyphen, CVE-2025-64484), `X.Forwarded.User` after that, and
`Connection: X-Auth` to strip what the proxy had added (CVE-2021-32813). Here a header is forwarded because it is named
below, identity travels only in the token that the gateway signs, and `Connection` can name what it likes: nothing of it
is read except `close` and `upgrade`, by the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.problems import Headers, bad_request

NAME = re.compile(rb"[A-Za-z0-9-]+")
_PRINTABLE = re.compile(rb"[\t -~]*")

TO_SERVICE = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"content-encoding",
        b"content-language",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-unmodified-since",
        b"last-event-id",
        b"prefer",
        b"range",
        b"tracestate",
    }
)
TO_CLIENT = frozenset(
    {
        b"accept-ranges",
        b"allow",
        b"cache-control",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-range",
        b"content-security-policy",
        b"content-type",
        b"deprecation",
        b"etag",
        b"expires",
        b"idempotent-replayed",
        b"last-modified",
        b"link",
        b"location",
        b"preference-applied",
        b"retry-after",
        b"sunset",
        b"vary",
        b"www-authenticate",
        b"x-jws-signature",
    }
)
#: Repeating one of these would let two readers see two values.
_SINGLE = frozenset(
    {
        b"authorization",
        b"colonnade-session",
        b"content-encoding",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"last-event-id",
        b"range",
        b"traceparent",
    }
)


# Read by nobody here; naming them saves the pattern for what nearly every request carries (2 us a request).
_IGNORED = frozenset(
    {b"connection", b"content-length", b"expect", b"origin", b"referer", b"transfer-encoding", b"user-agent"}
)


def sift(headers: Headers) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Judge a header block (names in lower case) and take out what counts.

    Names are held to letters, digits and hyphens: the wider token grammar of RFC 9110 is where readers disagree.

    Returns:
        what goes on to a service, as pieces of a header block to be joined; and the headers given at most once, by
        name.

    Raises:
        Problem: 400; a name or value is not acceptable, or one that must be single is repeated.
    """
    forwarded: list[bytes] = []
    single: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE:
            if name in single:
                raise bad_request(f"the header {name.decode()} may be given only once")
            single[name] = value
        elif name not in TO_SERVICE:
            if name not in _IGNORED and not NAME.fullmatch(name):
                raise bad_request("header names may hold letters, digits and hyphens only")
            continue
        if not _PRINTABLE.fullmatch(value):
            raise bad_request(f"the header {name.decode()} may hold visible ASCII only")
        if name in TO_SERVICE:
            forwarded += (name, b": ", value, b"\r\n")
    return forwarded, single


def for_client(headers: Iterable[tuple[bytes, bytes]], internal_origin: bytes) -> Headers:
    """The forwarded part of a service's headers (names in lower case).

    Args:
        internal_origin: the service's own address; a `Location` that carries it is made relative, for clients cannot
            reach it and need not know it.
    """
    passed: Headers = []
    for name, value in headers:
        if name in TO_CLIENT:
            if name == b"location" and value.startswith(internal_origin):
                value = value[len(internal_origin) :] or b"/"
            passed.append((name, value))
    return passed

"""What the head of a request says about itself: whether it may be heard at all, and how long its body is.

RFC 9112 section 6 and its section 11 on request smuggling, with every leniency taken out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from gateway.problems import Problem, bad_request

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HOST = re.compile(rb"[A-Za-z0-9._~:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What one connection may take. Times in seconds."""

    head_seconds: float = 10.0
    body_idle_seconds: float = 30.0
    body_total_seconds: float = 60.0
    keep_alive_seconds: float = 60.0
    write_stall_seconds: float = 60.0
    max_head_bytes: int = 32768
    max_target_bytes: int = 8192
    max_headers: int = 100
    max_connections: int = 4096


def body_length(
    method: str,
    version: str,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    limits: EdgeLimits,
    parser: httptools.HttpRequestParser,
) -> tuple[int | None, Problem | None]:
    """How long the body is (None: chunked), or why this head is refused."""
    if len(target) > limits.max_target_bytes:
        return 0, Problem(
            414, "target-too-long", "The request target is too long.", f"at most {limits.max_target_bytes} bytes"
        )
    if len(headers) > limits.max_headers:
        return 0, head_too_large()
    if version not in ("1.1", "1.0"):
        return 0, Problem(505, "http-version", "This HTTP version is not spoken here.", "use HTTP/1.1")
    if method not in METHODS:
        allow = [(b"allow", ", ".join(sorted(METHODS)).encode())]
        return 0, Problem(405, "method", "This method is not offered here.", f"{method} is not offered", headers=allow)
    if not target.startswith(b"/"):
        return 0, bad_request("the request target must be an absolute path")
    hosts = 0
    length: bytes | None = None
    coding: bytes | None = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return 0, bad_request("the Host header is not a host name")
        elif name == b"content-length":
            if length is not None or not value.isdigit():
                return 0, bad_request("Content-Length must be given once, in digits")
            length = value
        elif name == b"transfer-encoding":
            if coding is not None or value.lower() != b"chunked" or version != "1.1":
                return 0, bad_request("the only transfer coding accepted is chunked, once, in HTTP/1.1")
            coding = value
        elif name == b"expect" and value.lower() != b"100-continue":
            return 0, Problem(417, "expectation", "The expectation cannot be met.", "only 100-continue is known")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return 0, bad_request("exactly one Host header is required")
    if length is not None and coding is not None:
        return 0, bad_request("Content-Length and Transfer-Encoding exclude one another")
    if parser.should_upgrade() and (coding is not None or (length is not None and int(length))):
        return 0, bad_request("a request that asks for an upgrade may not have a body")
    return (None if coding is not None else int(length or 0)), None


def head_too_large() -> Problem:
    return Problem(431, "headers-too-large", "The request headers are too large.", "send fewer or shorter headers")


def too_slow(detail: str) -> Problem:
    return Problem(408, "too-slow", "The request took too long to arrive.", detail)

"""Which service a request target belongs to, decided on the bytes that came in and on nothing derived from them.

A router that decodes before it compares, in front of a service that decodes again, is how `..%2f` and `//` reach what
they should not (CVE-2021-41773 and its kin). So nothing is normalised here: a target that has more than one reading is
refused, and one that has a single reading is passed on byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_TARGET_BYTES = 8192

DEFAULT_BODY_BYTES = 1 << 20
TELEMETRY_BODY_BYTES = 8 << 20
IMPORT_BODY_BYTES = 2 << 30  # 100,000 assets with every field filled are some 150 MB

_TARGET = re.compile(rb"/[!-~]*")  # visible ASCII; anything else has to come percent-encoded
# One search finds every second reading of a path: empty, `.` or `..` segments (also with path parameters, also
# encoded), backslashes, encoded separators and control characters, and a percent sign that encodes nothing.
_AMBIGUOUS = re.compile(
    rb"//"
    rb"|/(?:\.|%2e){1,2}(?:[;/]|$)"
    rb"|[\\#]"
    rb"|%(?:2f|5c|0[0-9a-f]|1[0-9a-f]|7f)"
    rb"|%(?![0-9a-f]{2})",
    re.IGNORECASE,
)
_BAD_ESCAPE = re.compile(rb"#|%(?![0-9A-Fa-f]{2})|%00")

#: First segments after /v1 and the service that owns them (DESIGN.md section 4).
AREAS: Mapping[str, str] = {
    "assets": "inventory",
    "discovery": "inventory",
    "boms": "inventory",
    "compliance-gaps": "inventory",
    "graph": "inventory",
    "toxic-combinations": "inventory",
    "artifact-digests": "inventory",
    "risk": "risk",
    "inspections": "detection",
    "rules": "detection",
    "alerts": "detection",
    "containments": "detection",
    "telemetry": "detection",
    "traces": "detection",  # OTLP/HTTP fixes /v1/traces and /v1/logs
    "logs": "detection",
    "incidents": "incidents",
    "playbooks": "incidents",
    "actions": "incidents",
    "webhooks": "incidents",
    "governance": "governance",
    "metrics": "metrics",
    "reports": "metrics",
    "access": "gateway",
}
SERVICES = ("inventory", "risk", "detection", "incidents", "governance", "metrics")


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests below a prefix go, and how large and how long they may be.

    Attributes:
        max_body_bytes: a larger request body is refused with 413.
        untimed: neither the request body nor the answer has a total deadline (only idle ones): imports and event
            streams.
    """

    service: str
    max_body_bytes: int = DEFAULT_BODY_BYTES
    untimed: bool = False


_LARGE_AREAS = ("inspections", "logs", "telemetry", "traces")  # carry prompts and documents, or many of them at once
_BY_AREA: Mapping[bytes, Route] = {
    area.encode(): Route(service, TELEMETRY_BODY_BYTES if area in _LARGE_AREAS else DEFAULT_BODY_BYTES)
    for area, service in AREAS.items()
}
# Longer than an area's own limits; looked up by the whole path.
_BY_PATH: Mapping[bytes, Route] = {
    b"/v1/assets/import": Route("inventory", IMPORT_BODY_BYTES, untimed=True),
    b"/v1/artifact-digests/import": Route("inventory", 256 << 20, untimed=True),
    b"/v1/alerts/stream": Route("detection", untimed=True),
}
_DOCUMENT_BODY_BYTES = 8 << 20  # a CycloneDX bill of a large model server


def ambiguity(target: bytes) -> str | None:
    """Why this request target is refused, or None when it has exactly one reading."""
    if not _TARGET.fullmatch(target):
        return "the request target must be an absolute path in visible ASCII"
    path, _, query = target.partition(b"?")
    if _AMBIGUOUS.search(path):
        return "the path has empty or dot segments, encoded separators or control characters, or a broken escape"
    if query and _BAD_ESCAPE.search(query):
        return "the query has a fragment mark, an encoded NUL or a broken escape"
    return None


def route(path: bytes) -> Route | None:
    """The route of an unambiguous path without its query, or None when nothing lives there."""
    special = _BY_PATH.get(path)
    if special is not None:
        return special
    if not path.startswith(b"/v1/"):
        return None
    area, _, rest = path[4:].partition(b"/")
    found = _BY_AREA.get(area)
    if (area == b"assets" and rest.endswith(b"/bom")) or path == b"/v1/boms":
        return Route("inventory", _DOCUMENT_BODY_BYTES)
    return found

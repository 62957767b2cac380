"""Evidence that shows when it was touched.

Each record's hash covers the hash before it, so a record cannot be changed, removed from the middle or moved without
every later hash giving it away. The tail is held by the dossier's digest: whoever kept one can tell that later
records were cut off. Content is hashed as the exact text that was stored, since databases and parsers may write the
same number in different ways.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

GENESIS = "0" * 64
CANONICAL_FORM = "JSON, UTF-8, keys sorted by code point, no whitespace, non-ASCII unescaped"


def canonical(value: object) -> str:
    """The one text for a JSON value (see CANONICAL_FORM).

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value is no JSON value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def instant(moment: datetime) -> str:
    """A time in the one form that is hashed: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Record:
    """A piece of evidence. `content` is canonical JSON text; `sequence` counts from 1 within the incident."""

    id: UUID
    incident_id: UUID
    sequence: int
    kind: str
    title: str
    source: str
    content: str
    content_sha256: str
    collected_at: datetime
    collected_by: str
    previous_hash: str
    hash: str

    def sealed(self) -> dict[str, Any]:
        """What the hash covers, beside the previous hash."""
        return {
            "id": str(self.id),
            "incident_id": str(self.incident_id),
            "sequence": self.sequence,
            "kind": self.kind,
            "title": self.title,
            "source": self.source,
            "content_sha256": self.content_sha256,
            "collected_at": instant(self.collected_at),
            "collected_by": self.collected_by,
        }


def link(previous_hash: str, sealed: Mapping[str, Any]) -> str:
    """SHA-256 over the previous hash (64 hexadecimal digits) followed by the canonical JSON of what is sealed."""
    return sha256(previous_hash + canonical(sealed))


def record(
    *,
    id: UUID,
    incident_id: UUID,
    after: tuple[int, str],
    kind: str,
    title: str,
    source: str,
    content: object,
    collected_at: datetime,
    collected_by: str,
) -> Record:
    """The next record of a chain; `after` is sequence and hash of the one before, (0, GENESIS) for the first."""
    text = canonical(content)
    draft = Record(
        id=id,
        incident_id=incident_id,
        sequence=after[0] + 1,
        kind=kind,
        title=title,
        source=source,
        content=text,
        content_sha256=sha256(text),
        collected_at=collected_at,
        collected_by=collected_by,
        previous_hash=after[1],
        hash="",
    )
    return Record(**{name: getattr(draft, name) for name in Record.__slots__ if name != "hash"}, hash=_hash_of(draft))


def _hash_of(entry: Record) -> str:
    return link(entry.previous_hash, entry.sealed())


def first_broken(chain: Iterable[Record]) -> int | None:
    """Sequence number of the first record that does not fit its chain, None when all do."""
    sequence, previous = 0, GENESIS
    for entry in chain:
        intact = (
            entry.sequence == sequence + 1
            and entry.previous_hash == previous
            and entry.content_sha256 == sha256(entry.content)
            and entry.hash == _hash_of(entry)
        )
        if not intact:
            return sequence + 1
        sequence, previous = entry.sequence, entry.hash
    return None


def digest(document: Mapping[str, Any]) -> dict[str, str]:
    """The digest of a dossier: SHA-256 over the canonical JSON of everything in it but the member `digest`."""
    body = {name: value for name, value in document.items() if name != "digest"}
    return {"algorithm": "sha-256", "canonical_form": CANONICAL_FORM, "value": sha256(canonical(body))}

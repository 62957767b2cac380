"""What is inspected: the texts of one exchange between people, models and tools, and whom it counts for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.detection.domain.evidence import Placeholders, Sensitive, redact
from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Subject
from shared.contracts.detection import Direction
from shared.errors import TooLarge

SEGMENT_LIMIT_BYTES = 65_536
INTERACTION_LIMIT = 262_144


class ContentTooLarge(TooLarge):
    """The text is longer than detectors read."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A string inside a structured value: where it stands in the segment's text and where it came from."""

    pointer: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One text of an interaction.

    Attributes:
        field: its JSON Pointer in the request.
        leaves: its parts, if it has any.
        tool: the tool that is called with it, or whose result it is, where messages name one; that of an interaction
            as a whole is the interaction's own.
    """

    field: str
    direction: Direction
    text: str
    leaves: tuple[Leaf, ...] = ()
    tool: str | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """What passed between people, models and tools, as far as it was sent to us.

    `failed`: the sender says that the tool's result is an error. Texts of tools that say so themselves need no flag.
    `counts` is False for a part of what was counted already: it adds to no rate.
    """

    direction: Direction
    segments: tuple[Segment, ...]
    asset_id: UUID | None = None
    session_id: str | None = None
    actor: str | None = None
    tool: str | None = None
    model: str | None = None
    tokens: int = 0
    cost_usd: float = 0.0
    team: str = ""
    failed: bool = False
    counts: bool = True

    @property
    def size(self) -> int:
        """Characters of all its texts."""
        return sum(len(segment.text) for segment in self.segments)

    def subjects(self) -> list[Subject]:
        """Whom its rates count for. A session or actor is one per asset and team: ids are the callers' own."""
        place = f"{self.asset_id or ''}@{self.team}"
        found = [Subject("session", f"{place}|{self.session_id}")] if self.session_id else []
        if self.actor:
            found.append(Subject("actor", f"{place}|{self.actor}"))
        if self.asset_id is not None:
            found.append(Subject("asset", str(self.asset_id)))
        return found

    def amounts(self) -> dict[Metric, float]:
        """What it adds to rates."""
        amounts: dict[Metric, float] = {}
        if not self.counts:
            return amounts
        if self.direction is Direction.TOOL_CALL:
            amounts[Metric.TOOL_CALLS_PER_MINUTE] = 1.0
        if self.direction is Direction.INPUT:
            amounts[Metric.REQUESTS_PER_MINUTE] = 1.0
        if self.tokens:
            amounts[Metric.TOKENS_PER_MINUTE] = float(self.tokens)
        if self.cost_usd:
            amounts[Metric.COST_USD_PER_HOUR] = self.cost_usd
        return amounts


def check_size(interaction: Interaction) -> None:
    """Refuse more text than detectors read.

    Raises:
        ContentTooLarge: names the field.
    """
    total = 0
    for segment in interaction.segments:
        total += len(segment.text)
        if _over(segment.text):
            raise ContentTooLarge(
                f"{segment.field} is longer than {SEGMENT_LIMIT_BYTES} bytes",
                limit_bytes=SEGMENT_LIMIT_BYTES,
                errors=[{"field": segment.field, "message": f"at most {SEGMENT_LIMIT_BYTES} bytes"}],
            )
        if total > INTERACTION_LIMIT:
            told = f"with this, all texts together are longer than {INTERACTION_LIMIT} characters"
            errors = [{"field": segment.field, "message": told}]
            raise ContentTooLarge(f"{segment.field}: {told}", limit=INTERACTION_LIMIT, errors=errors)


def _over(text: str) -> bool:
    # A character is one to four bytes; only in between is it worth encoding.
    return len(text) > SEGMENT_LIMIT_BYTES or (
        len(text) * 4 > SEGMENT_LIMIT_BYTES and len(text.encode()) > SEGMENT_LIMIT_BYTES
    )


def leaves_of(arguments: Mapping[str, Any], field: str) -> Segment | None:
    """A tool's arguments as one text, a line a string, each line led by its key; None without any string.

    Lines keep words that belong together together, and a line is what an argument is to the tool.
    """
    lines: list[str] = []
    leaves: list[Leaf] = []
    length = 0

    def walk(value: Any, pointer: str, key: str) -> None:
        nonlocal length
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(inner, f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}", str(name))
        elif isinstance(value, list | tuple):
            for at, inner in enumerate(value):
                walk(inner, f"{pointer}/{at}", key)
        elif value is not None and not isinstance(value, bool):
            line = f"{key}: {value}"
            leaves.append(Leaf(pointer, length + len(key) + 2, length + len(line)))
            lines.append(line)
            length += len(line) + 1

    walk(arguments, field, "")
    return Segment(field, Direction.TOOL_CALL, "\n".join(lines), tuple(leaves)) if lines else None


def redacted(segment: Segment, redactions: Sequence[Sensitive], names: Placeholders) -> str:
    """The segment's text with what must not pass replaced by placeholders."""
    return redact(segment.text, redactions, names)


def redacted_arguments(arguments: Any, segment: Segment, redactions: Sequence[Sensitive], names: Placeholders) -> Any:
    """A tool's arguments with what must not pass replaced, their structure kept."""
    touched: dict[str, list[Sensitive]] = {}
    for leaf in segment.leaves:
        for span in redactions:
            low, high = max(span.start, leaf.start), min(span.end, leaf.end)
            if low < high:
                touched.setdefault(leaf.pointer, []).append(Sensitive(low - leaf.start, high - leaf.start, span.label))

    def walk(value: Any, pointer: str) -> Any:
        if isinstance(value, Mapping):
            return {
                name: walk(inner, f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}")
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [walk(inner, f"{pointer}/{at}") for at, inner in enumerate(value)]
        return redact(str(value), touched[pointer], names) if pointer in touched else value

    return walk(arguments, segment.field)

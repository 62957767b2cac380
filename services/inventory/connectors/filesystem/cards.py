"""Model and dataset cards: the front matter of a README, and what its sections say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

FRONT_MATTER_LIMIT = 64 << 10
CARD_LIMIT = 256 << 10
_ITEMS_LIMIT = 50
_LINE_LIMIT = 200
_SECTION_LIMIT = 2_000
_DEPTH_LIMIT = 24
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECTION = re.compile(r"^#{1,4}\s*(.+?)\s*#*\s*$", re.MULTILINE)
_TEXTS = {
    "pipeline_tag": "task",
    "library_name": "library",
    "model_name": "title",
    "pretty_name": "title",
    "license_link": "license_link",
    "base_model_relation": "base_model_relation",
}
_LISTS = {
    "language": "languages",
    "datasets": "datasets",
    "tags": "tags",
    "metrics": "metrics_used",
    "base_model": "base_models",
    "task_categories": "task_categories",
    "size_categories": "size_categories",
    "source_datasets": "source_datasets",
    "annotations_creators": "annotations_creators",
}
_WANTED = {
    "limitations": re.compile(r"\b(?:limitations?|bias(?:es)?|risks?|caveats?)\b", re.IGNORECASE),
    "out_of_scope": re.compile(r"\bout[- ]of[- ]scope\b|\bmisuse\b", re.IGNORECASE),
    "intended_use": re.compile(r"\bintended uses?\b|\bdirect use\b|\buse cases?\b", re.IGNORECASE),
}


class CardRefused(ValueError):
    """A front matter that is not read, and why."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a card states.

    Attributes:
        lines: where in the README each key of the front matter stands, from 1.
        facts: what a model card of a bill of materials takes, under its own names.
    """

    license: str | None = None
    base_models: tuple[str, ...] = ()
    base_model_relation: str | None = None
    datasets: tuple[str, ...] = ()
    is_dataset: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)


def read_card(text: str) -> Card:
    """The card of a README.

    Raises:
        CardRefused: the front matter is too long, no YAML, or made to be expanded without end.
    """
    front, body = _split(text)
    data = _parsed(front) if front else {}
    lines = {
        match[1]: 2 + front.count("\n", 0, match.start()) for match in re.finditer(r"^([\w-]+):", front, re.MULTILINE)
    }
    facts: dict[str, Any] = {}
    for key, name in _TEXTS.items():
        if value := _line(data.get(key)):
            facts.setdefault(name, value)
    for key, name in _LISTS.items():
        if values := _lines(data.get(key)):
            facts[name] = list(values)
    if metrics := _metrics(data.get("model-index")):
        facts["metrics"] = metrics
    facts.update(_sections(body))
    stated = _line(data.get("license"))
    if stated == "other":
        stated = _line(data.get("license_name")) or stated
    return Card(
        license=stated,
        base_models=_lines(data.get("base_model")),
        base_model_relation=_line(data.get("base_model_relation")),
        datasets=_lines(data.get("datasets")),
        is_dataset=any(
            key in data for key in ("dataset_info", "task_categories", "size_categories", "annotations_creators")
        ),
        facts=facts,
        lines=lines,
    )


def _split(text: str) -> tuple[str, str]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return "", text
    end = text.find("\n---", 3)
    if end < 0:
        return "", text
    if end > FRONT_MATTER_LIMIT:
        raise CardRefused(f"a front matter of more than {FRONT_MATTER_LIMIT} bytes")
    return text[4 : end + 1], text[end + 4 :]


def _parsed(front: str) -> Mapping[str, Any]:
    depth = 0
    try:
        for event in yaml.parse(front, _LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise CardRefused("it refers to its own parts, which may grow without end")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH_LIMIT:
                raise CardRefused("lists within lists, too deep")
        data = yaml.load(front, _LOADER)  # noqa: S506  # the safe loader, in C where there is one
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, CardRefused):
            raise
        raise CardRefused(f"it is no YAML: {str(error).splitlines()[0] if str(error) else 'broken'}") from None
    return data if isinstance(data, dict) else {}


def _line(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = " ".join(str(value).split())[:_LINE_LIMIT]
    return text or None


def _lines(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for one in values[:_ITEMS_LIMIT] if (text := _line(one))))


def _metrics(index: Any) -> list[dict[str, Any]]:
    """Results of the card's model-index, each with its metric, value, task and dataset."""
    found: list[dict[str, Any]] = []
    for model in index[:5] if isinstance(index, list) else ():
        results = model.get("results") if isinstance(model, dict) else None
        for result in results[:_ITEMS_LIMIT] if isinstance(results, list) else ():
            if not isinstance(result, dict):
                continue
            task, data, metrics = result.get("task"), result.get("dataset"), result.get("metrics")
            for metric in metrics[:_ITEMS_LIMIT] if isinstance(metrics, list) else ():
                if isinstance(metric, dict) and (kind := _line(metric.get("type"))):
                    entry = {
                        "type": kind,
                        "value": _line(metric.get("value")),
                        "task": _line(task.get("type")) if isinstance(task, dict) else None,
                        "dataset": _line(data.get("name") or data.get("type")) if isinstance(data, dict) else None,
                    }
                    found.append({key: value for key, value in entry.items() if value is not None})
    return found[:_ITEMS_LIMIT]


def _sections(body: str) -> dict[str, str]:
    """The text below the headings that a bill of materials asks for."""
    headings = list(_SECTION.finditer(body))
    found: dict[str, str] = {}
    for position, match in enumerate(headings):
        end = headings[position + 1].start() if position + 1 < len(headings) else len(body)
        content = " ".join(body[match.end() : end].split())[:_SECTION_LIMIT]
        if not content or "[More Information Needed]" in content or "[Needs More Information]" in content:
            continue
        for name, wanted in _WANTED.items():
            if wanted.search(match[1]):
                found.setdefault(name, content)
                break
    return found


_LICENSES = (
    ("apache-2.0", re.compile(r"Apache License\s+Version 2\.0")),
    (
        "mit",
        re.compile(r"\bMIT License\b|Permission is hereby granted, free of charge, to any person obtaining a copy"),
    ),
    ("bsd-3-clause", re.compile(r"BSD 3-Clause|Neither the name of .{0,80} nor the names of its", re.DOTALL)),
    ("agpl-3.0", re.compile(r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3")),
    ("gpl-3.0", re.compile(r"GNU GENERAL PUBLIC LICENSE\s+Version 3")),
    ("llama4", re.compile(r"LLAMA 4 COMMUNITY LICENSE", re.IGNORECASE)),
    ("llama3.3", re.compile(r"LLAMA 3\.3 COMMUNITY LICENSE", re.IGNORECASE)),
    ("llama3.2", re.compile(r"LLAMA 3\.2 COMMUNITY LICENSE", re.IGNORECASE)),
    ("llama3.1", re.compile(r"LLAMA 3\.1 COMMUNITY LICENSE", re.IGNORECASE)),
    ("llama3", re.compile(r"META LLAMA 3 COMMUNITY LICENSE", re.IGNORECASE)),
    ("llama2", re.compile(r"LLAMA 2 COMMUNITY LICENSE", re.IGNORECASE)),
    ("gemma", re.compile(r"Gemma Terms of Use")),
    ("openrail", re.compile(r"\bOpen ?RAIL", re.IGNORECASE)),
    ("cc-by-nc-4.0", re.compile(r"Attribution-NonCommercial 4\.0 International")),
    ("cc-by-sa-4.0", re.compile(r"Attribution-ShareAlike 4\.0 International")),
    ("cc-by-4.0", re.compile(r"Attribution 4\.0 International")),
)


def license_of(text: str) -> str | None:
    """The licence that a LICENSE file's text is, by its own heading; the hub's identifiers."""
    return next((name for name, heading in _LICENSES if heading.search(text[:8_000])), None)

"""The format of the classifier's training text: every file can be sampled, and no text stands in it twice."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXT = Path(__file__).parents[1] / "training" / "text"
FILES = sorted(TEXT.rglob("*.yaml"))
LABELS = {"attack", "benign"}
CHANNELS = {"input", "document", "tool_result", "tool_call", "output"}


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def slots_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_there_is_text_of_both_labels() -> None:
    assert {load(path)["label"] for path in FILES} == LABELS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_family_says_what_it_is(path: Path) -> None:
    family = load(path)
    assert set(family) == {"label", "family", "language", "channel", "texts", "slots"}
    assert family["label"] in LABELS
    assert family["family"] == path.stem
    assert re.fullmatch("[a-z]{2,3}", family["language"])
    assert family["channel"] in CHANNELS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_template_can_be_filled(path: Path) -> None:
    family = load(path)
    used: set[str] = set()
    for template in family["texts"]:
        assert template.strip()
        slots = slots_of(template)
        assert slots <= set(family["slots"]), template
        used |= slots
        template.format(**{name: values[0] for name, values in family["slots"].items()})
    assert used == set(family["slots"])
    for name, values in family["slots"].items():
        assert all(isinstance(value, str) and value for value in values), name
        assert len(set(values)) == len(values), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_text_stands_in_a_family_twice(path: Path) -> None:
    plain = [" ".join(re.findall(r"\w+", text.lower())) for text in load(path)["texts"]]
    assert len(set(plain)) == len(plain)

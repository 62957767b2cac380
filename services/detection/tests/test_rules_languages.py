"""Attacks in other languages are flagged, and ordinary sentences with the same key words are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from services.detection import pack
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.verdict import weigh
from shared.contracts.detection import Direction, Verdict

SENTENCES: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("rules_languages.yaml").read_text(encoding="utf-8")
)
LEAST_FLAGGED = 0.8
"""Share of a language's attacks that has to be flagged."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return pack.detector(Loaded(one.rule, 1) for one in pack.shipped().values() if one.rule.detection.type == "regex")


def flagged(detector: Detector, text: str) -> bool:
    direction = Direction.DOCUMENT
    interaction = Interaction(direction, (Segment("/content", direction, text),))
    verdict, _ = weigh(detector.inspect(interaction, now=datetime(2026, 1, 1, tzinfo=UTC)).findings)
    return verdict is not Verdict.ALLOW


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_attacks_are_flagged(language: str, detector: Detector) -> None:
    attacks = SENTENCES[language]["attack"]
    assert len(attacks) >= 10
    missed = [text for text in attacks if not flagged(detector, text)]
    assert len(missed) <= (1 - LEAST_FLAGGED) * len(attacks), f"missed: {missed}"


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_ordinary_sentences_with_the_same_words_are_not(language: str, detector: Detector) -> None:
    ordinary = SENTENCES[language]["benign"]
    assert len(ordinary) >= 10
    assert [text for text in ordinary if flagged(detector, text)] == []

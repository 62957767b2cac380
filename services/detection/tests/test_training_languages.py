"""The training text in other languages: every file can be sampled, each language has all families, none is misfiled."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXT = Path(__file__).parents[1] / "training" / "text"
# <family>.<language>.yaml; English files carry no language in their names and are tested elsewhere.
FILES = sorted(TEXT.glob("*.*.yaml"))

FAMILIES = {
    "direct_override": 25,
    "jailbreak": 15,
    "prompt_leak": 15,
    "indirect": 15,
    "exfiltration": 6,
    "ordinary": 30,
    "hard": 20,
    "document": 10,
    "core_words": 6,
    "core_words_ok": 4,
}  # the least number of templates of each in a language

LANGUAGES = sorted(path.stem.partition(".")[2] for path in TEXT.glob("direct_override.*.yaml"))

SCRIPTS = {
    "ar": {"ARABIC"},
    "el": {"GREEK"},
    "fa": {"ARABIC"},
    "he": {"HEBREW"},
    "hi": {"DEVANAGARI"},
    "ja": {"HIRAGANA", "KATAKANA", "CJK"},
    "ko": {"HANGUL"},
    "ru": {"CYRILLIC"},
    "th": {"THAI"},
    "uk": {"CYRILLIC"},
    "zh": {"CJK"},
}  # of what is not written in Latin letters


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def slots_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_what_it_is_and_can_be_filled(path: Path) -> None:
    document = load(path)
    assert path.stem == f"{document['family']}.{document['language']}"
    assert document["label"] in {"attack", "benign"}
    slots = document.get("slots", {})
    used: set[str] = set()
    for template in document["texts"]:
        used |= slots_of(template)
        filled = template.format(**{name: values[0] for name, values in slots.items()})
        assert filled.strip()
    assert used == set(slots)


def test_there_are_many_languages() -> None:
    assert len(LANGUAGES) >= 25


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_all_families_and_its_own_script(language: str) -> None:
    counts: dict[str, int] = {}
    letters: Counter[str] = Counter()
    for family in FAMILIES:
        texts = load(TEXT / f"{family}.{language}.yaml")["texts"]
        counts[family] = len(texts)
        letters.update(unicodedata.name(c, "?").split()[0].split("-")[0] for c in "".join(texts) if c.isalpha())
    assert {family: n for family, n in counts.items() if n < FAMILIES[family]} == {}
    own = sum(letters[script] for script in SCRIPTS.get(language, {"LATIN"}))
    assert own > 0.7 * letters.total()  # the rest: addresses, names of tools, transliterations


def test_no_text_stands_twice_whatever_its_file_or_label() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        document = load(path)
        first = {name: values[0] for name, values in document.get("slots", {}).items()}
        for text in (template.format(**first) for template in document["texts"]):
            where[" ".join(re.findall(r"\S+", text.casefold()))].append(path.stem)
    assert {text: files for text, files in where.items() if len(files) > 1} == {}

"""The training texts: what is written in text/*.yaml, with slots filled, dressed up and planted in documents.

A file holds one family of attacks or of harmless texts in one language (see text/README.md). Everything here is drawn
from a seed: the same seed gives the same texts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent / "text"
_SAME = frozenset({"name", "acro", "model", "maker", "corp", "person", "place", "char"})
"""Slots that stand for one thing throughout a text."""
_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Text:
    """One text with what is known of it. `origin` names the sentence it was made from, for splits that do not leak."""

    text: str
    attack: bool
    family: str
    language: str
    channel: str
    origin: str


@dataclass(frozen=True, slots=True)
class Family:
    """A file of training text."""

    name: str
    attack: bool
    family: str
    language: str
    channel: str
    whole: bool
    texts: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]

    def drawn(self, at: int, chance: random.Random) -> Text:
        """The text of that number with its slots filled."""

        same: dict[str, str] = {}

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            if name is None:
                return match.group()[0]
            value = chance.choice(self.slots[name])
            return same.setdefault(name, value) if name in _SAME else value

        text = _SLOT.sub(fill, self.texts[at]).strip()
        # A value may bring slots of its own, one level deep.
        if any("{" in value for values in self.slots.values() for value in values):
            text = _SLOT.sub(lambda match: fill(match) if match.group(1) in self.slots else match.group(), text)
        return Text(text, self.attack, self.family, self.language, self.channel, f"{self.name}#{at}")


def families(directory: Path = DIRECTORY) -> list[Family]:
    """Every file of training text.

    Raises:
        ValueError: a file is not as text/README.md says; names it.
    """
    found = []
    for path in sorted(directory.glob("*.yaml")):
        document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        try:
            family = Family(
                name=path.stem,
                attack={"attack": True, "benign": False}[document["label"]],
                family=document["family"],
                language=document["language"],
                channel=document["channel"],
                whole=document.get("unit", "whole") == "whole",
                texts=tuple(document["texts"]),
                slots={name: tuple(str(one) for one in values) for name, values in document.get("slots", {}).items()},
            )
            for at in range(len(family.texts)):
                family.drawn(at, random.Random(0))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}: {error!r}") from error
        found.append(family)
    return found


_DRESSES = 6


def dressed(text: str, chance: random.Random) -> str:
    """The text as another hand might have typed it: case, punctuation, line breaks, greeting; mostly as it is."""
    kind = chance.randrange(_DRESSES * 3)
    if kind == 0:
        return text.upper() if len(text) < 200 else text
    if kind == 1:
        return text.lower()
    if kind == 2:
        return text.rstrip(".!?。") + chance.choice(["", "!!", "...", " !", "?"])
    if kind == 3:
        return text.replace(". ", ".\n")
    if kind == 4:
        return re.sub(r"[,;:'\"]", "", text)
    if kind == 5 and len(text) > 30:
        at = chance.randrange(len(text) - 1)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def drawn(seed: int, each: int = 2) -> Iterator[Text]:
    """`each` texts of every sentence in every file, slots filled anew; those without slots come once plain."""
    chance = random.Random(seed)
    for family in families():
        for at, written in enumerate(family.texts):
            seen: set[str] = set()
            for _ in range(each if "{" in written else min(each, 2)):
                one = family.drawn(at, chance)
                text = one.text if not seen else dressed(one.text, chance)
                if text not in seen:
                    seen.add(text)
                    yield replace(one, text=text)


def planted(sentence: str, document: str, chance: random.Random) -> str:
    """A sentence put into a document: before it, after it, between two lines, in a comment or a cell."""
    kind = chance.randrange(8)
    if kind < 3:
        return document + chance.choice(["\n", "\n\n", " "]) + sentence
    if kind == 3:
        return sentence + chance.choice(["\n", "\n\n"]) + document
    lines = document.split("\n")
    at = chance.randrange(len(lines) + 1)
    if kind == 7:
        sentence = chance.choice(["<!-- {} -->", "# {}", "// {}", "[{}]", "Note: {}", "| {} |", "> {}"]).format(sentence)
    return "\n".join([*lines[:at], sentence, *lines[at:]])


_SENTENCE_END = re.compile(r"(?<=[.!?;。！？؟।])\s+|\n+")


def sentences(text: str) -> Sequence[str]:
    """The sentences and lines of a document that hold words."""
    return [one.strip() for one in _SENTENCE_END.split(text) if len(one.strip()) >= 12]

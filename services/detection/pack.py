"""The rules that ship with the service, read from their files and compiled together once a process."""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from services.detection.domain.matching import PatternSet
from services.detection.domain.rules import Rule, parse

DIRECTORY = Path(__file__).parent / "rules"


@dataclass(frozen=True, slots=True)
class Shipped:
    """One rule of the pack. `digest` changes when the file's meaning does."""

    rule: Rule
    path: Path
    digest: str


def digest_of(rule: Rule) -> str:
    """Digest of what a rule says, the same whatever its file's layout."""
    return hashlib.sha256(rule.model_dump_json().encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def shipped() -> dict[str, Shipped]:
    """The pack by rule id.

    Raises:
        InvalidRule: a file is not a rule.
        ValueError: two files have one id, or a file is not named after its rule.
    """
    pack: dict[str, Shipped] = {}
    for path in sorted(DIRECTORY.glob("*/*.yaml")):
        rule = parse(path.read_text(encoding="utf-8"))
        if path.stem != rule.id:
            raise ValueError(f"{path} holds the rule {rule.id}")
        if rule.id in pack:
            raise ValueError(f"{path} and {pack[rule.id].path} hold the same rule")
        pack[rule.id] = Shipped(rule, path, digest_of(rule))
    return pack


@lru_cache(maxsize=1)
def compiled() -> PatternSet:
    """The pack's patterns under Hyperscan: takes a second, so call it off the event loop."""
    patterns = PatternSet((one.rule for one in shipped().values()), multi=True)
    # The compiler's working memory, 15 MB, which glibc would keep.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return patterns

"""What ships with the service and is made ready once a process: the rules, compiled together, and the classifier."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from services.detection.compiled_cache import CompiledCache, directory
from services.detection.domain.classifier import Classifier, Head
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.matching import PatternSet
from services.detection.domain.rules import Rule, parse

DIRECTORY = Path(__file__).parent / "rules"
REVISION = DIRECTORY / "revision.json"
REVISION = DIRECTORY / "revision.json"
MODEL = Path(__file__).parent / "model"


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


def revision() -> int:
    """The pack's place among those of all releases: a later one has a higher number."""
    return int(orjson.loads(REVISION.read_bytes())["revision"])


def digest() -> str:
    """Digest of what all rules of the pack say."""
    said = "".join(f"{rule_id} {one.digest}\n" for rule_id, one in sorted(shipped().items()))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def is_revised() -> bool:
    """Whether the revision was raised since the rules last changed."""
    return bool(orjson.loads(REVISION.read_bytes())["digest"] == digest())


def revise() -> int:
    """Raise the revision if the rules are others than those it was given for; it as it is then.

    The digest is written down with it, so that two branches that both changed rules meet in a conflict, not in two
    packs of one number.
    """
    if not is_revised():
        written = {"revision": revision() + 1, "digest": digest()}
        REVISION.write_bytes(orjson.dumps(written, option=orjson.OPT_INDENT_2) + b"\n")
    return revision()


@lru_cache(maxsize=1)
def compiled() -> PatternSet:
    """The pack's patterns under Hyperscan: takes four seconds the first time, so call it off the event loop."""
    patterns = PatternSet((one.rule for one in shipped().values()), multi=True, kept=CompiledCache(directory()))
    # The compiler's working memory, 15 MB, which glibc would keep.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return patterns


@lru_cache(maxsize=1)
def classifier() -> Classifier:
    """The trained classifier. Weights are plain arrays of numbers, described by model.json; nothing is unpickled."""
    described: dict[str, Any] = orjson.loads((MODEL / "model.json").read_bytes())
    heads = {
        name: Head(
            weights=np.load(MODEL / f"{name}.npy", allow_pickle=False),
            scale=head["scale"],
            bias=head["bias"],
            center=tuple(head["center"]),
            spread=tuple(head["spread"]),
            levels=tuple((logit, score) for logit, score in head["levels"]),
            whole=head["whole"],
            stretches=head["stretches"],
            out_of_place=head["out_of_place"],
        )
        for name, head in described["heads"].items()
    }
    return Classifier(heads, described["bits"])


def detector(loaded: Iterable[Loaded], unchanged: frozenset[str] | None = None) -> Detector:
    """A detector of these rules. Those of `unchanged` are the pack's own and share its compilation; None: all are."""
    rules = list(loaded)
    shared = frozenset(one.rule.id for one in rules) if unchanged is None else unchanged
    return Detector(rules, compiled(), shared, classifier())

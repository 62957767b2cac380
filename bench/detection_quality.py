"""What detection finds, a source at a time, by models that have seen nothing of the source.

    python -m bench.detection_quality --corpora FOLDER [--profile balanced]

For each source the classifier is trained anew without it (and without texts of others that are the same), then every
text is put to the whole detector. Prints recall and false positives a source, macro-averaged over sources, and what
each part adds. The rules do not change with the folds: they were written without looking at the attacks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.detection import pack
from services.detection.domain.assets import Profile
from services.detection.domain.classifier import Classifier, Head
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.rules import DATA_KINDS, ClassifierDetection, RegexDetection, Rule, View
from services.detection.domain.verdict import weigh
from services.detection.training import corpora, texts, train
from services.detection.training.corpora import Row
from shared.contracts.detection import Verdict

NOW = datetime(2026, 11, 28, tzinfo=UTC)
PARTS = ("patterns, as sent", "patterns, readings", "classifier", "all", "all, strict")


def detector_of(classifier: Classifier, kept: Iterable[Rule]) -> Detector:
    rules = [Loaded(rule, 1) for rule in kept]
    return Detector(rules, pack.compiled(), frozenset(one.rule.id for one in rules), classifier)


def flagged(detector: Detector, row: Row, profile: Profile) -> bool:
    """A verdict other than allow; of secrets and personal data, that they were found, whatever the verdict."""
    interaction = Interaction(row.direction, (Segment("/content", row.direction, row.text[:65_000]),))
    findings = detector.inspect(interaction, now=NOW).findings
    if row.sensitive:
        return any(one.kind in DATA_KINDS for one in findings)
    return weigh(findings, profile)[0] is not Verdict.ALLOW


def classifiers(rows: Sequence[Row]) -> dict[str, Classifier]:
    """A classifier for each source, trained without it and calibrated on the harmless texts of the other folds."""
    drawn = list(texts.drawn(train.SEED, 4))
    heads: dict[str, dict[str, Head]] = defaultdict(dict)
    for name, channel in (("attack", "input"), ("smuggled", "document")):
        own = train.own_examples(drawn, channel)
        unseen: dict[tuple[str, ...], train.Unseen] = {}
        for fold in train.FOLDS:
            unseen[fold] = train.unseen_of(drawn, own, rows, channel, fold)
            print(".", end="", file=sys.stderr, flush=True)
        for fold, (head, _) in unseen.items():
            others = [one for other, one in unseen.items() if other != fold]
            heads[fold[0]][name] = train.calibrated(head, others)
            for source in fold[1:]:
                heads[source][name] = heads[fold[0]][name]
    kind = pack.classifier().heads["jailbreak"]
    return {source: Classifier({**found, "jailbreak": kind}, train.BITS) for source, found in heads.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=os.environ.get("CORPORA"), help="folder of labelled texts")
    parser.add_argument("--profile", type=Profile, default=Profile.BALANCED, choices=list(Profile))
    asked, _ = parser.parse_known_args()
    if not asked.corpora:
        sys.exit("say where the labelled texts are: CORPORA=folder or --corpora folder")
    rows = corpora.read(Path(asked.corpora))
    report(rows, asked.profile)


def report(rows: Sequence[Row], profile: Profile) -> None:
    rules = [one.rule for one in pack.shipped().values()]
    patterns = [rule for rule in rules if isinstance(rule.detection, RegexDetection)]
    asked = [rule for rule in rules if isinstance(rule.detection, ClassifierDetection)]
    by_source = classifiers([row for row in rows if not row.sensitive])
    counted: dict[tuple[str, str], list[int]] = {}
    detectors: dict[str, dict[str, Detector]] = {}
    shipped = pack.classifier()
    for row in rows:
        if row.source not in detectors:
            own = by_source.get(row.source, shipped)
            detectors[row.source] = {
                "patterns, readings": detector_of(own, patterns),
                "classifier": detector_of(own, asked),
                "all": detector_of(own, rules),
            }
        hits = counted.setdefault((row.label, row.source), [0] * (len(PARTS) + 1))
        hits[-1] += 1
        for at, part in enumerate(PARTS):
            if part == "patterns, as sent":
                hits[at] += any(pack.compiled().scan(row.text.encode(), view)[0] for view in View)
            else:
                named = part.removesuffix(", strict")
                at_profile = Profile.STRICT if part.endswith("strict") else profile
                hits[at] += flagged(detectors[row.source][named], row, at_profile)
    print(f"\nflagged under the {profile.value} profile, by classifiers that have not seen the source")
    print(f"{'label':<20}{'source':<28}{'texts':>6}" + "".join(f"{part:>20}" for part in PARTS))
    for (label, source), hits in sorted(counted.items()):
        print(f"{label:<20}{source:<28}{hits[-1]:>6}" + "".join(f"{hit / hits[-1]:>20.4f}" for hit in hits[:-1]))
    summary(counted)


LABELS = ("injection", "jailbreak", "indirect_injection", "benign", "benign_hard", "secret", "pii")


def summary(counted: dict[tuple[str, str], list[int]]) -> None:
    """Macro averages over sources of ten texts or more, and pooled figures."""
    print(f"\n{'macro over sources':<54}" + "".join(f"{part:>20}" for part in PARTS))
    for label in LABELS:
        listed = [hits for (one, source), hits in counted.items() if one == label and hits[-1] >= 10]
        if label == "benign_hard":
            listed = [hits for (one, source), hits in counted.items() if one == label and source != "gitleaks-fps"]
        if listed:
            means = [sum(hits[at] / hits[-1] for hits in listed) / len(listed) for at in range(len(PARTS))]
            print(f"{label:<54}" + "".join(f"{mean:>20.4f}" for mean in means))
    attacks = [hits for (label, _), hits in counted.items() if label in LABELS[:3]]
    harmless = [hits for (label, source), hits in counted.items() if label in LABELS[3:5] and source != "gitleaks-fps"]
    for at, part in enumerate(PARTS):
        found, missed = sum(one[at] for one in attacks), sum(one[-1] - one[at] for one in attacks)
        wrong, others = sum(one[at] for one in harmless), sum(one[-1] for one in harmless)
        macro = sum(one[at] / one[-1] for one in attacks if one[-1] >= 10) / sum(one[-1] >= 10 for one in attacks)
        print(
            f"{part:<20} all attacks: recall {found / (found + missed):.3f} pooled, {macro:.3f} macro; "
            f"false positives {wrong / others:.4f} ({wrong} of {others}); "
            f"F1 {2 * found / (2 * found + missed + wrong):.3f}"
        )


if __name__ == "__main__":
    main()

"""What peers find in the same labelled texts, in the same run as ours.

    python -m bench.detection_peers --corpora FOLDER [--sample 200] [--left-out] [--peers NAME ...]

Peers are installed with pinned versions into an environment of their own, each runs in a process of its own, without
network or keys, one core, with its documented defaults; flagged is any verdict but "let it pass". Prints recall and
false positives a source, macro-averaged and pooled, and CPU time. `--sample` takes that many texts a source, the same
ones for everybody. `--left-out` also judges by classifiers trained without the source they judge
(bench.detection_quality), which is what ours can be expected to do elsewhere: the shipped one has seen some of these.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.peers import client
from bench.peers.client import Answer
from services.detection import pack
from services.detection.domain.classifier import Classifier
from services.detection.domain.detector import Detector, Inspected, Loaded
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.verdict import weigh
from services.detection.training import corpora
from services.detection.training.corpora import Row
from shared.contracts.detection import Direction, FindingKind, Verdict

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LIMIT = 65_000
"""Characters of a text that are put to a detector."""
MACRO_LEAST = 10
"""Texts of a label that a source must have to count in the average over sources."""
ATTACKS = ("injection", "jailbreak", "indirect_injection")
HARMLESS = ("benign", "benign_hard")
NEAR_SECRETS = "gitleaks-fps"
PERSONAL = "presidio-research"


@dataclass(slots=True)
class Column:
    """One detector's answers to the rows of a table."""

    name: str
    about: str
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """One question, the rows it is asked of, and whom it is asked."""

    title: str
    rows: Sequence[Row]
    peers: Sequence[str]
    wanted: Callable[[Row], bool]
    ours: Callable[[Inspected], bool]


def flagged(found: Inspected) -> bool:
    return weigh(found.findings)[0] is not Verdict.ALLOW


def found_kind(kind: FindingKind) -> Callable[[Inspected], bool]:
    """Whether such data was found, wherever it may belong: what peers for such data answer."""
    return lambda found: any(one.kind is kind and not one.shadow for one in found.findings)


def detector_of(classifier: Classifier) -> Detector:
    rules = [Loaded(one.rule, 1) for one in pack.shipped().values()]
    return Detector(rules, pack.compiled(), frozenset(pack.shipped()), classifier)


def own_answers(
    rows: Iterable[Row], detector_for: Callable[[Row], Detector], says: Callable[[Inspected], bool]
) -> list[Answer]:
    answers = []
    for row in rows:
        detector = detector_for(row)
        interaction = Interaction(row.direction, (Segment("/content", row.direction, row.text[:LIMIT]),))
        started = time.process_time_ns()
        found = detector.inspect(interaction, now=NOW)
        taken = time.process_time_ns() - started
        answers.append(Answer(says(found), taken / 1000))
    return answers


def peer_column(name: str, rows: Sequence[Row]) -> Column:
    with client.running(name) as peer:
        column = Column(name, f"{peer.version}, {peer.licence}")
        for row in rows:
            direction = "document" if row.direction is Direction.DOCUMENT else "input"
            column.answers.append(peer.judge(row.text[:LIMIT], direction))
    return column


def share(rows: Sequence[Row], column: Column, kept: Callable[[Row], bool]) -> tuple[int, int]:
    """Flagged texts, and texts."""
    chosen = [one.flagged for row, one in zip(rows, column.answers, strict=True) if kept(row)]
    return sum(chosen), len(chosen)


def macro(rows: Sequence[Row], column: Column, kept: Callable[[Row], bool]) -> float:
    """The mean over sources of ten texts or more of the share that was flagged."""
    sources = {(row.label, row.source) for row in rows if kept(row)}
    shares = []
    for label, source in sorted(sources):
        hits, size = share(rows, column, lambda row, at=(label, source): (row.label, row.source) == at)  # type: ignore[misc]
        if size >= MACRO_LEAST:
            shares.append(hits / size)
    return statistics.fmean(shares) if shares else 0.0


def report(table: Table, columns: Sequence[Column]) -> None:
    rows = table.rows
    print(f"\n{table.title}: share flagged, a source\n")
    width = max(len(one.name) for one in columns) + 2
    print(f"{'label':<20}{'source':<28}{'texts':>6}" + "".join(f"{one.name:>{width}}" for one in columns))
    for label, source in sorted({(row.label, row.source) for row in rows}):
        shares = [share(rows, one, lambda row, at=(label, source): (row.label, row.source) == at) for one in columns]  # type: ignore[misc]
        cells = "".join(f"{hits / size:>{width}.3f}" for hits, size in shares)
        print(f"{label:<20}{source:<28}{shares[0][1]:>6}{cells}")
    print(
        f"\n{table.title}: together\n\n"
        f"{'':<22}{'recall':>8}{'macro':>8}{'false +':>9}{'macro':>8}{'F1':>7}{'p50 us':>9}"
        f"{'p99 us':>10}{'texts/s':>9}{'errors':>7}  version, licence"
    )
    for one in columns:
        found, attacks = share(rows, one, table.wanted)
        wrong, harmless = share(rows, one, lambda row: not table.wanted(row))
        f1 = 2 * found / (2 * found + attacks - found + wrong) if found else 0.0
        taken = sorted(answer.microseconds for answer in one.answers if not answer.error)
        errors = len(one.answers) - len(taken)
        taken = taken or [0.0]
        print(
            f"{one.name:<22}{found / max(attacks, 1):>8.3f}{macro(rows, one, table.wanted):>8.3f}"
            f"{wrong / max(harmless, 1):>9.4f}{macro(rows, one, lambda row: not table.wanted(row)):>8.4f}{f1:>7.3f}"
            f"{statistics.median(taken):>9.0f}{taken[int(len(taken) * 0.99) - 1]:>10.0f}"
            f"{len(taken) / max(sum(taken), 1) * 1e6:>9.0f}{errors:>7}  {one.about}",
            flush=True,
        )


def tables(rows: Sequence[Row]) -> list[Table]:
    attack_rows = [
        row for row in rows if row.label in (*ATTACKS, *HARMLESS) and row.source not in (NEAR_SECRETS, PERSONAL)
    ]
    return [
        Table("attacks", attack_rows, client.ATTACKS, lambda row: row.attack, flagged),
        Table(
            "secrets",
            [row for row in rows if row.label == "secret" or row.source == NEAR_SECRETS],
            client.SECRETS,
            lambda row: row.label == "secret",
            found_kind(FindingKind.SECRET),
        ),
        Table(
            "personal data with a form of its own",
            [row for row in rows if row.source == PERSONAL and not _address_only(row)],
            client.PERSONAL,
            lambda row: row.label == "pii",
            found_kind(FindingKind.PII),
        ),
        Table(
            "street addresses alone",
            [row for row in rows if row.source == PERSONAL and (_address_only(row) or row.label != "pii")],
            client.PERSONAL,
            lambda row: row.label == "pii",
            found_kind(FindingKind.PII),
        ),
    ]


def _address_only(row: Row) -> bool:
    return row.label == "pii" and row.sub == "STREET_ADDRESS"


def sampled(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many texts of a label of a source, drawn alike in every run."""
    by_source: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_source.setdefault((row.label, row.source), []).append(row)
    drawn = random.Random(7)
    return [
        row for listed in by_source.values() for row in (listed if len(listed) <= most else drawn.sample(listed, most))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=os.environ.get("CORPORA"), help="folder of labelled texts")
    parser.add_argument("--sample", type=int, default=0, help="texts a label of a source; 0 for all")
    parser.add_argument("--left-out", action="store_true", help="also by classifiers that have not seen the source")
    parser.add_argument("--peers", nargs="*", help="only these")
    asked, _ = parser.parse_known_args()
    if not asked.corpora:
        sys.exit("say where the labelled texts are: CORPORA=folder or --corpora folder")
    every = corpora.read(Path(asked.corpora))
    shipped = detector_of(pack.classifier())
    left_out: dict[str, Detector] = {}
    if asked.left_out:
        from bench import detection_quality  # training takes minutes, and only this asks for it

        without = detection_quality.classifiers([row for row in every if not row.sensitive])
        left_out = {source: detector_of(one) for source, one in without.items()}
    for table in tables(sampled(every, asked.sample) if asked.sample else every):
        own_answers(table.rows[:50], lambda _: shipped, table.ours)  # patterns compile when they are first needed
        columns = [Column("ours", "all rules, shipped model", own_answers(table.rows, lambda _: shipped, table.ours))]
        if left_out and table.title == "attacks":
            answers = own_answers(table.rows, lambda row: left_out.get(row.source, shipped), table.ours)
            columns.append(Column("ours, left out", "models that have not seen the source", answers))
        for name in table.peers:
            if asked.peers and name not in asked.peers:
                continue
            try:
                columns.append(peer_column(name, table.rows))
            except ChildProcessError as error:
                print(f"left out: {error}", file=sys.stderr)
        report(table, columns)


if __name__ == "__main__":
    main()

"""How fast detection is, on one core, over texts that no cache knows; beside engines and peers in the same run.

    python -m bench.detection_speed [--quick] [--no-peers]

All figures are CPU time of this process on one core, so that a busy machine does not change them much. A message is put
to the detector as a service would; without the classifier means without its rules. Goals are printed beside, with the
ratio to them: 1.00 and more is met.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import re2

from bench import hostile
from bench.generated import Writer
from bench.peers import client
from services.detection import pack
from services.detection.domain import folding
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.rules import ClassifierDetection, Rule, View, patterns_of
from shared.contracts.detection import Direction

NOW = datetime(2026, 11, 28, tzinfo=UTC)
SEED = 20_261_128
MESSAGE = 600
TOOL_OUTPUT = 64_000
HURT_AT = 50.0
"""Milliseconds that no text of 64 KB may take."""


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU time a text, in microseconds, sorted."""

    taken: Sequence[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.taken)

    @property
    def p99(self) -> float:
        return self.taken[min(len(self.taken) - 1, int(len(self.taken) * 0.99))]

    @property
    def per_second(self) -> float:
        return len(self.taken) / sum(self.taken) * 1e6


def detector_of(kept: Callable[[Rule], bool]) -> Detector:
    rules = [Loaded(one.rule, 1) for one in pack.shipped().values() if kept(one.rule)]
    return Detector(rules, pack.compiled(), frozenset(one.rule.id for one in rules), pack.classifier())


def microseconds(detector: Detector, text: str, direction: Direction) -> float:
    interaction = Interaction(direction, (Segment("/content", direction, text),))
    started = time.process_time_ns()
    detector.inspect(interaction, now=NOW)
    return (time.process_time_ns() - started) / 1000


def measured(detector: Detector, texts: Iterable[str], direction: Direction) -> Measured:
    return Measured(sorted(microseconds(detector, text, direction) for text in texts))


def line(what: str, value: float, unit: str, goal: float | None = None, *, at_most: bool = False) -> None:
    """Print a figure, and how it stands to its goal."""
    beside = ""
    if goal is not None:
        ratio = goal / value if at_most else value / goal
        beside = f"   goal {'<=' if at_most else '>='} {goal:,g}: {ratio:.2f} {'met' if ratio >= 1 else 'MISSED'}"
    print(f"{what:<62}{value:>12,.1f} {unit:<8}{beside}", flush=True)


def messages(patterns: Detector, whole: Detector, count: int) -> None:
    texts = Writer(SEED).messages(count * 2, MESSAGE)
    warm = Writer(SEED + 1).messages(400, MESSAGE)
    size = sum(len(text.encode()) for text in texts) / len(texts)
    print(f"\nmessages: {count} of {size:.0f} bytes, prose in 14 languages, code, JSON, Markdown")
    measured(patterns, warm, Direction.INPUT)
    figures = measured(patterns, texts[:count], Direction.INPUT)
    line("rules, secrets and personal data, median", figures.p50, "us", 150, at_most=True)
    line("rules, secrets and personal data, 99 of 100", figures.p99, "us", 1_500, at_most=True)
    line("rules, secrets and personal data", figures.per_second, "/s", 5_000)
    measured(whole, warm, Direction.INPUT)
    figures = measured(whole, texts[count:], Direction.INPUT)
    line("with the classifier on every message, median", figures.p50, "us", 2_000, at_most=True)
    line("with the classifier on every message, 99 of 100", figures.p99, "us")
    line("with the classifier on every message", figures.per_second, "/s", 800)


def tool_outputs(whole: Detector, count: int) -> None:
    texts = Writer(SEED + 2).tool_outputs(count, TOOL_OUTPUT)
    print(f"\ntool outputs: {count} of {TOOL_OUTPUT // 1000} KB, with the classifier")
    for _, text in Writer(SEED + 3).tool_outputs(12, TOOL_OUTPUT):
        microseconds(whole, text, Direction.TOOL_RESULT)
    by_kind: dict[str, list[float]] = {}
    for kind, text in texts:
        by_kind.setdefault(kind, []).append(microseconds(whole, text, Direction.TOOL_RESULT))
    for kind, taken in by_kind.items():
        line(f"{kind}", Measured(sorted(taken)).per_second, "/s")
    line("all", Measured(sorted(one for taken in by_kind.values() for one in taken)).per_second, "/s", 300)


def worst(whole: Detector, fuzzed: int) -> None:
    taken: list[tuple[float, str, str]] = []
    raised: list[str] = []
    for name, text in hostile.inputs(SEED, fuzzed):
        try:
            taken.append((microseconds(whole, text, Direction.TOOL_RESULT) / 1000, name, text))
        except Exception as error:  # what a detector must not do with any text is what this looks for
            raised.append(f"{name}: {type(error).__name__}")
    taken.sort(reverse=True)
    # What came out slow may have compiled a pattern, or met a cold cache: the best of three more says what it takes.
    again = [
        (min(microseconds(whole, text, Direction.TOOL_RESULT) / 1000 for _ in range(3)), first, name)
        for first, name, text in _families(taken)[:12]
    ]
    again.sort(reverse=True)
    print(f"\nhostile inputs: {len(taken)} of 64 KB, the slowest")
    for best, first, name in again[:10]:
        print(f"  {best:>8.1f} ms ({first:.1f} at first)  {name}")
    line("slowest", again[0][0], "ms", HURT_AT, at_most=True)
    line("over the goal at first", sum(first > HURT_AT for first, _, _ in taken), f"of {len(taken)}")
    print(f"{'raised an error':<62}{len(raised):>12}" + "".join(f"\n  {one}" for one in raised))


def _families(taken: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """The slowest of each kind of input: numbered ones are of a kind."""
    found: dict[str, tuple[float, str, str]] = {}
    for one in taken:
        found.setdefault(one[1].rstrip("0123456789"), one)
    return list(found.values())


def engines(count: int) -> None:
    """The pack's own patterns under other engines, on text as they are meant to see it."""
    written = [
        (rule.detection.view, pattern if rule.detection.case_sensitive else f"(?i){pattern}")  # type: ignore[union-attr]
        for rule in (one.rule for one in pack.shipped().values())
        for _, _, pattern in patterns_of(rule)
    ]
    texts = Writer(SEED + 4).messages(count, 1_000)
    read = {View.RAW: [one.encode() for one in texts], View.TEXT: [folding.fold(one).encode() for one in texts]}
    size = sum(len(text.encode()) for text in texts)
    print(f"\nengines: {len(written)} patterns of the pack over {count} messages of 1 KB, unseen")

    each_re: dict[View, list[Any]] = {view: [] for view in View}
    refused = 0
    for view, pattern in written:
        try:
            each_re[view].append(re.compile(pattern))
        except re.error:
            refused += 1
    decoded = {view: [one.decode() for one in listed] for view, listed in read.items()}
    few = max(10, count // 20)
    _rate(
        f"re, each pattern ({refused} that it does not know left out)",
        sum(len(text.encode()) for text in texts[:few]),
        lambda: [one.search(text) for view in View for text in decoded[view][:few] for one in each_re[view]],
    )
    each: dict[View, list[Any]] = {view: [re2.compile(one) for at, one in written if at is view] for view in View}
    _rate(
        "RE2, each pattern",
        sum(len(text.encode()) for text in texts[: few * 4]),
        lambda: [one.search(text) for view in View for text in read[view][: few * 4] for one in each[view]],
    )
    sets: dict[View, Any] = {}
    options = re2.Options()
    options.max_mem = 1 << 30
    for view in View:
        sets[view] = re2.Set.SearchSet(options)
        for at, one in written:
            if at is view:
                sets[view].Add(one)
        sets[view].Compile()
    _rate("RE2, all in a set", size, lambda: [sets[view].Match(text) for view in View for text in read[view]])
    compiled = pack.compiled()
    _rate(
        "ours: Hyperscan first, RE2 where it may match",
        size,
        lambda: [compiled.scan(text, view)[0] for view in View for text in read[view]],
    )


def _rate(what: str, size: int, run: Callable[[], object]) -> None:
    started = time.process_time_ns()
    run()
    line(what, size / ((time.process_time_ns() - started) / 1e9) / 1e6, "MB/s")


def peers(whole: Detector, count: int) -> None:
    short, long = Writer(SEED + 5).messages(count, MESSAGE), Writer(SEED + 6).tool_outputs(12, TOOL_OUTPUT)
    print(
        f"\npeers: {count} messages of {MESSAGE} bytes, 12 tool outputs of {TOOL_OUTPUT // 1000} KB; CPU time, one core"
    )
    print(f"{'':<24}{'p50 us':>10}{'p99 us':>10}{'messages/s':>12}{'64 KB /s':>10}{'slowest ms':>12}{'errors':>8}")
    ours = measured(whole, short, Direction.INPUT)
    _beside("ours, with classifier", ours, [microseconds(whole, text, Direction.TOOL_RESULT) for _, text in long], 0)
    for name in (*client.ATTACKS, *client.SECRETS, *client.PERSONAL):
        try:
            with client.running(name) as peer:
                few = [peer.judge(text, "input") for text in short]
                much = [peer.judge(text, "document") for _, text in long]
        except ChildProcessError as error:
            print(f"{name:<24}{error}")
            continue
        errors = sum(bool(one.error) for one in (*few, *much))
        answered = Measured(sorted(one.microseconds for one in few if not one.error) or [0.001])
        _beside(name, answered, [one.microseconds for one in much if not one.error], errors)


def _beside(name: str, short: Measured, long: Sequence[float], errors: int) -> None:
    per_second = len(long) / sum(long) * 1e6 if long else 0.0
    slowest = max(long, default=0.0) / 1000
    print(
        f"{name:<24}{short.p50:>10.0f}{short.p99:>10.0f}{short.per_second:>12.0f}{per_second:>10.1f}{slowest:>12.1f}"
        f"{errors:>8}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts")
    parser.add_argument("--no-peers", action="store_true", help="only ours and the engines")
    asked, _ = parser.parse_known_args()
    share = 10 if asked.quick else 1
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        patterns = detector_of(lambda rule: not isinstance(rule.detection, ClassifierDetection))
        whole = detector_of(lambda _: True)
        messages(patterns, whole, 10_000 // share)
        tool_outputs(whole, 240 // share)
        worst(whole, 400 // share)
        engines(1_000 // share)
        if not asked.no_peers:
            peers(whole, 1_000 // share)
    finally:
        os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    main()

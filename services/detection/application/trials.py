"""Rules put to texts: their own examples, the cases they were made for, and ordinary texts that they must leave alone.

All of it takes CPU time, up to a second or two: have it done by `Trials`, before any transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from services.detection import benign, pack
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.figures import wilson
from services.detection.domain.rules import (
    ClassifierDetection,
    Example,
    InvalidRule,
    RegexDetection,
    Rule,
    SequenceDetection,
    Status,
    TrackerDetection,
    check,
)
from services.detection.domain.trial import Trial, try_example
from services.detection.store.cases import Case
from shared.errors import Unavailable

Answer = TypeVar("Answer")

AT_ONCE = 2
WAITING_AT_MOST = 6
"""Trials that wait for others. A trial takes a second or two, so whoever came last is answered within ten."""
RETRY_SECONDS = 5


class TooManyTrials(Unavailable):
    """Too many rules are being tried at the moment; try again shortly."""


class Trials:
    """Tries rules in threads of its own, a few at a time: whoever may read rules may have them tried."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "try")
        self._unfinished: set[Future[Any]] = set()

    async def run(self, trial: Callable[[], Answer]) -> Answer:
        """What `trial` gives. A caller who goes away has its trial finished, if it has begun.

        Raises:
            TooManyTrials: WAITING_AT_MOST others wait already.
        """
        self._unfinished = {one for one in self._unfinished if not one.done()}
        if len(self._unfinished) >= AT_ONCE + WAITING_AT_MOST:
            raise TooManyTrials(f"{len(self._unfinished)} rules are being tried", retry_after_seconds=RETRY_SECONDS)
        begun = self._threads.submit(trial)
        self._unfinished.add(begun)
        return await asyncio.wrap_future(begun)

    def close(self) -> None:
        """End the threads; what still runs in them is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class TextRecord:
    """What a rule made of the benign regression texts: how many there are, and the ids of those on which it fired."""

    texts: int
    fired: tuple[str, ...]

    @property
    def upper(self) -> float:
        """Upper 95 % bound of its false-positive rate on such texts."""
        return wilson(len(self.fired), self.texts)[1]

    def figures(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "fired": list(self.fired),
            "rate": len(self.fired) / self.texts if self.texts else None,
            "upper_95": round(self.upper, 6),
        }


def tried(rule: Rule) -> Detector:
    """A detector of this one rule, for trying it; one that is out of force is tried as though it ran.

    Raises:
        InvalidRule: a pattern cannot run; names the field.
    """
    check(rule)
    status = Status.TEST if rule.status is Status.DEPRECATED else rule.status
    running = rule.model_copy(update={"status": status, "expires_at": None})
    beside: list[Loaded] = []
    if isinstance(rule.detection, TrackerDetection | SequenceDetection):
        # What a session shows is made of what the shipped rules find in its turns.
        shipped = [one.rule for one in pack.shipped().values() if one.rule.id != rule.id]
        beside = [Loaded(one, 1) for one in shipped if isinstance(one.detection, RegexDetection | ClassifierDetection)]
    return pack.detector([Loaded(running, 1), *beside], frozenset(one.rule.id for one in beside))


def check_examples(rule: Rule) -> None:
    """Refuse a rule that cannot run, or does not do on its own examples what they say.

    Raises:
        InvalidRule: names the pattern or the example.
    """
    detector = tried(rule)
    for name, examples, wanted in (("match", rule.examples.match, True), ("near_miss", rule.examples.near_miss, False)):
        for at, example in enumerate(examples):
            if _try(detector, rule, example, f"/examples/{name}/{at}").fired is not wanted:
                says = "does not fire on an example that it must match" if wanted else "fires on its near miss"
                raise InvalidRule(f"the rule {says}", field=f"/examples/{name}/{at}")


def try_examples(rule: Rule, examples: Sequence[Example]) -> list[Trial]:
    """What a rule makes of each example; nothing is kept.

    Raises:
        InvalidRule: the rule cannot run, or an example is no interaction.
    """
    detector = tried(rule)
    return [_try(detector, rule, example, f"/examples/{at}") for at, example in enumerate(examples)]


def _try(detector: Detector, rule: Rule, example: Example, field: str) -> Trial:
    try:
        return try_example(detector, rule, example)
    except ValueError as error:
        raise InvalidRule(f"the example cannot be tried: {error}", field=field) from error


def on_benign_texts(rule: Rule) -> TextRecord:
    """What a rule makes of the benign regression texts. Its own kind of data in one of them is no false positive."""
    detector = tried(rule)
    fired = [
        one.id
        for one in benign.texts()
        if rule.kind not in one.contains and try_example(detector, rule, one.for_rule(rule)).fired
    ]
    return TextRecord(len(benign.texts()), tuple(fired))


def missed(rule: Rule, cases: Iterable[Case]) -> list[UUID]:
    """The cases that a rule has to match and does not."""
    listed = [case for case in cases if case.released_at is None]
    if not listed:
        return []
    detector = tried(rule)
    return [case.case_id for case in listed if not matches(detector, rule, case.text, case)]


def matches(detector: Detector, rule: Rule, text: str, case: Case) -> bool:
    """Whether a rule fires on a text where the case came from. A quotation does: it was an attack."""
    direction = case.direction if case.direction in rule.scope.directions else rule.scope.directions[0]
    return try_example(detector, rule, Example(content=text, direction=direction)).finding is not None

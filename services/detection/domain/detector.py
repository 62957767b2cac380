"""The detector: rules made ready, and one interaction put to all of them.

A Detector is immutable and safe in several threads; a change of rules makes a new one beside the old.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.detection.domain import folding, validators, verdict
from services.detection.domain.assets import Asset, exceeds
from services.detection.domain.classifier import Classifier
from services.detection.domain.evidence import Sensitive, excerpt, merge
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.matching import MAX_VALUES, Effort, PatternSet, Span
from services.detection.domain.mentions import is_mention
from services.detection.domain.rules import (
    DATA_KINDS,
    BudgetDetection,
    ClassifierDetection,
    Level,
    Metric,
    PolicyDetection,
    RateDetection,
    RegexDetection,
    Response,
    Rule,
    SequenceDetection,
    Signal,
    SimilarityDetection,
    StatisticalDetection,
    Status,
    TrackerDetection,
    UsageDetection,
    View,
)
from services.detection.domain.sessions import Measured
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.verdict import Evidence, Finding
from services.detection.domain.views import Reading, readings
from shared.contracts.detection import Direction, FindingKind
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

MAX_FINDINGS = 50
_REPETITION_LENGTH = 1_500
_REPETITION_START = 8_192
"""Bytes whose compression mostly says already that a whole text, which cannot take less, repeats itself too little."""
_STAND_IN = {
    "session": ("session", "actor", "asset"),
    "actor": ("actor", "session", "asset"),
    "asset": ("asset", "actor", "session"),
}
"""Whom a rate is taken for when the interaction does not say whom the rule asks for."""

Matches = list[tuple[Rule, list[Span]]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A rule with the version it is stored under."""

    rule: Rule
    version: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """What all detectors hold of one interaction. `redactions` are spans of its segments' texts, by segment field."""

    findings: tuple[Finding, ...]
    redactions: Mapping[str, tuple[Sensitive, ...]]


_NOTHING = Inspected((), {})


_BEFORE, _AFTER = 80, 40
"""Characters around a value that its check may look at."""


def holds(rule: Rule, text: str, start: int, end: int, label: str = "") -> bool:
    """Whether the value at [start, end) of a text passes the rule's validator and entropy."""
    detection = rule.detection
    assert isinstance(detection, RegexDetection)
    value = text[start:end]
    if detection.min_entropy is not None and validators.entropy(value) < detection.min_entropy:
        return False
    if detection.validator is None:
        return True
    around = validators.Around(text[max(0, start - _BEFORE) : start], text[end : end + _AFTER], label)
    return validators.holds(detection.validator, value, around)


def applies(rule: Rule, direction: Direction, interaction: Interaction, asset: Asset | None, now: datetime) -> bool:
    """Whether a rule is in force for what goes in a direction in an interaction."""
    scope = rule.scope
    return (
        direction in scope.directions
        and rule.applies_at(now)
        and (not scope.asset_ids or interaction.asset_id in scope.asset_ids)
        and (not scope.asset_types or (asset is not None and asset.asset_type in scope.asset_types))
    )


class Detector:
    """All rules in force, compiled."""

    def __init__(
        self, loaded: Iterable[Loaded], shipped: PatternSet, shipped_ids: frozenset[str], classifier: Classifier
    ) -> None:
        """Make the rules ready.

        Args:
            shipped: the pack's rules, compiled together before.
            shipped_ids: which of them are in force unchanged; all other pattern rules are compiled here, under RE2.
            classifier: the trained one that classifier rules ask.

        Raises:
            InvalidRule: a pattern does not compile.
        """
        self._loaded = {one.rule.id: one for one in loaded if one.rule.status is not Status.DEPRECATED}
        self._rules = [one.rule for one in self._loaded.values()]
        self._shipped = shipped
        self._shipped_ids = shipped_ids & self._loaded.keys()
        own = [rule for rule in self._rules if rule.id not in shipped_ids]
        self._own = PatternSet([rule for rule in own if not rule.scope.asset_ids], multi=False)
        self._own_of = _by_asset([rule for rule in own if rule.scope.asset_ids])
        self.classifier = classifier
        self.judging = [(one, one.detection) for one in self._rules if isinstance(one.detection, ClassifierDetection)]
        self.statistical = [
            (one, one.detection) for one in self._rules if isinstance(one.detection, StatisticalDetection)
        ]
        self.least_repetition = min(
            (one.threshold for _, one in self.statistical if one.metric is Metric.REPETITION_RATIO), default=0.0
        )
        self.rates = [(one, one.detection) for one in self._rules if isinstance(one.detection, RateDetection)]
        self.policies = [(one, one.detection) for one in self._rules if isinstance(one.detection, PolicyDetection)]
        self.similarity = [
            (one, one.detection) for one in self._rules if isinstance(one.detection, SimilarityDetection)
        ]
        self.trackers: dict[Signal, list[tuple[Rule, TrackerDetection]]] = {}
        for one in self._rules:
            if isinstance(one.detection, TrackerDetection):
                self.trackers.setdefault(one.detection.signal, []).append((one, one.detection))
        self.sequences = [(one, one.detection) for one in self._rules if isinstance(one.detection, SequenceDetection)]
        self.usage = [one for one in self._rules if isinstance(one.detection, UsageDetection | BudgetDetection)]

    def __len__(self) -> int:
        return len(self._rules)

    def version_of(self, rule_id: str) -> int:
        return self._loaded[rule_id].version

    def inspect(
        self,
        interaction: Interaction,
        *,
        now: datetime,
        asset: Asset | None = None,
        prompts: PromptIndex | None = None,
        measured: Measured | None = None,
    ) -> Inspected:
        """Every finding of every rule in force. Pure; its time is linear in the text, so `check_size` first."""
        gathered = _Gathering(self, interaction, asset, now)
        for segment in interaction.segments:
            gathered.read(segment, prompts)
        gathered.measure(measured)
        gathered.check_policies()
        return gathered.result()

    def matches(
        self,
        reading: Reading,
        asset_id: UUID | None,
        direction: Direction | None = None,
        effort: Effort | None = None,
    ) -> Matches:
        """The pattern rules that match a reading, with where; notes on it the signs of encodings.

        Rules for certain assets, or for texts that go another way, are not even looked at for others, whom they would
        cost time.
        """
        found, reading.signs = self._shipped.scan(reading.data, reading.view, direction, effort)
        found = [(rule, spans) for rule, spans in found if rule.id in self._shipped_ids]
        for own in (self._own, *self._own_of.get(asset_id, ())):
            found += own.scan(reading.data, reading.view, direction)[0]
        return found

    def finding(self, rule: Rule, evidence: Evidence, score: float, label: str = "") -> Finding:
        """That a rule in force matched; `label` says what it found more exactly than its title."""
        return Finding(
            rule_id=rule.id,
            rule_version=self.version_of(rule.id),
            title=f"{rule.title}: {label}" if label else rule.title,
            kind=rule.kind,
            category=rule.category,
            severity=verdict.severity_of(rule, score),
            score=score,
            response=rule.response,
            evidence=evidence,
            owasp=rule.owasp,
            atlas=rule.atlas,
            shadow=rule.status is Status.SHADOW,
            temporary=rule.expires_at is not None,
        )

    def signs(self, text: str) -> frozenset[str]:
        return self._shipped.signs(text)

    def sensitive(self, text: str, asset_id: UUID | None) -> list[Sensitive]:
        """Secrets and personal data in a text of an asset, whichever way it goes: what no excerpt may show."""
        reading = Reading(View.RAW, text, text)
        return [span for _, spans in values_of(self.matches(reading, asset_id), reading) for span in spans]


def values_of(matches: Matches, reading: Reading) -> list[tuple[Rule, list[Sensitive]]]:
    """The secrets and personal data among matches: what their checks confirm, in characters of the reading's text."""
    found: list[tuple[Rule, list[Sensitive]]] = []
    for rule, spans in matches:
        if rule.kind in DATA_KINDS:
            # Several patterns of a rule may find the same value; it is checked once under each name.
            values = dict.fromkeys((span.value_start, span.value_end, span.label) for span in spans)
            places = [(*reading.characters(start, end), label) for start, end, label in values]
            confirmed = [
                Sensitive(start, end, label or rule.id)
                for start, end, label in places
                if holds(rule, reading.text, start, end, label)
            ]
            if confirmed and len(spans) >= MAX_VALUES:
                confirmed.append(Sensitive(confirmed[0].start, len(reading.text), rule.id))
            if confirmed:
                found.append((rule, confirmed))
    return found


def _by_asset(rules: Sequence[Rule]) -> dict[UUID | None, list[PatternSet]]:
    """The patterns of rules for certain assets, by asset; each rule is compiled once."""
    alike: dict[tuple[UUID, ...], list[Rule]] = {}
    for rule in rules:
        alike.setdefault(rule.scope.asset_ids, []).append(rule)
    found: dict[UUID | None, list[PatternSet]] = {}
    for asset_ids, same in alike.items():
        patterns = PatternSet(same, multi=False)
        for asset_id in set(asset_ids):
            found.setdefault(asset_id, []).append(patterns)
    return found


class _Gathering:
    """Findings of one interaction as they come together."""

    def __init__(self, detector: Detector, interaction: Interaction, asset: Asset | None, now: datetime) -> None:
        self._detector = detector
        self._interaction = interaction
        self._asset = asset
        self._now = now
        self._findings: dict[tuple[str, str], Finding] = {}
        self._redactions: dict[str, list[Sensitive]] = {}
        self._known: dict[str, list[Sensitive]] = {}
        self._highest: tuple[DataClassification, Evidence] | None = None

    def result(self) -> Inspected:
        if not self._findings:
            return _NOTHING
        findings = sorted(self._findings.values(), key=lambda one: (-one.score, one.rule_id))[:MAX_FINDINGS]
        return Inspected(tuple(findings), {name: tuple(spans) for name, spans in self._redactions.items()})

    def _applies(self, rule: Rule, direction: Direction) -> bool:
        return applies(rule, direction, self._interaction, self._asset, self._now)

    def _add(
        self,
        rule: Rule,
        evidence: Evidence,
        *,
        hidden: bool = False,
        mention: bool = False,
        at_most: float = 1.0,
        judged: float | None = None,
        label: str = "",
    ) -> None:
        score = round(min(verdict.score_of(rule, hidden=hidden, mention=mention, judged=judged), at_most), 2)
        if self._is_news(rule, evidence.field, score):
            self._findings[rule.id, evidence.field] = self._detector.finding(rule, evidence, score, label)

    def _is_news(self, rule: Rule, field: str, score: float) -> bool:
        known = self._findings.get((rule.id, field))
        return known is None or known.score < score

    # -- text ----------------------------------------------------------------------------------------------------

    def read(self, segment: Segment, prompts: PromptIndex | None) -> None:
        first: Reading | None = None
        effort = Effort()
        for reading in readings(segment.text, self._detector.signs):
            first = first or reading
            if not effort.goes_on(len(reading.text)):
                break
            found = self._detector.matches(reading, self._interaction.asset_id, segment.direction, effort)
            values = values_of(found, reading)
            if reading.view is View.RAW:
                self._known[reading.text] = merge(span for _, spans in values for span in spans)
            for rule, places in values:
                if self._applies(rule, segment.direction):
                    self._add_values(rule, segment, reading, places)
            for rule, spans in found:
                if rule.kind in DATA_KINDS or not self._applies(rule, segment.direction):
                    continue
                for span in spans:
                    start, end = reading.characters(span.value_start, span.value_end)
                    if holds(rule, reading.text, start, end) and self._add_match(rule, segment, reading, (start, end)):
                        break
            if reading.view is View.TEXT:
                self._judge(segment, reading)
            if prompts is not None and reading.view is View.TEXT and segment.direction is not Direction.INPUT:
                self._compare(segment, reading, prompts)
        if first is not None:
            self._measure_text(segment, first)
        if effort.unread:
            self._threshold(
                Metric.UNREAD_PATTERNS, effort.unread, segment.direction, (segment.field, len(segment.text))
            )

    def _sensitive(self, text: str) -> list[Sensitive]:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = merge(self._detector.sensitive(text, self._interaction.asset_id))
        return known

    def _evidence(self, segment: Segment, reading: Reading, span: tuple[int, int]) -> Evidence:
        origin = reading.origin(*span)
        # Positions in folded text differ from its source's only outside ASCII; then the excerpt is the original's.
        text, place = (reading.source, span) if len(reading.text) == len(reading.source) else (segment.text, origin)
        return Evidence(segment.field, *origin, excerpt(text, *place, self._sensitive(text)), reading.via)

    def _add_values(self, rule: Rule, segment: Segment, reading: Reading, spans: Sequence[Sensitive]) -> None:
        """Record secrets or personal data: one finding, and every value to be masked."""
        self._redactions.setdefault(segment.field, []).extend(
            Sensitive(*reading.origin(span.start, span.end), span.label, rule.id) for span in spans
        )
        evidence = self._evidence(segment, reading, (spans[0].start, spans[0].end))
        # A secret belongs nowhere, whatever the asset's class; its own finding says so.
        personal = rule.kind is FindingKind.PII
        if personal and rule.data_class and (self._highest is None or exceeds(rule.data_class, self._highest[0])):
            self._highest = rule.data_class, evidence
        fetched = segment.direction in (Direction.DOCUMENT, Direction.TOOL_RESULT)
        few = fetched or len({reading.text[one.start : one.end].casefold() for one in spans}) < verdict.CROWD
        at_most = self._expects(rule, segment.direction) if personal and few else 1.0
        label = "" if spans[0].label.lower() == rule.id else spans[0].label
        self._add(rule, evidence, at_most=at_most, label=label)

    def _add_match(self, rule: Rule, segment: Segment, reading: Reading, span: tuple[int, int]) -> bool:
        """Record a match; True when further ones of this rule in this reading would say nothing new."""
        assert isinstance(rule.detection, RegexDetection)
        mention = rule.detection.quotable and is_mention(reading.text, *span)
        score = verdict.score_of(rule, hidden=bool(reading.via), mention=mention)
        if rule.response is not Response.REDACT and not self._is_news(rule, segment.field, round(score, 2)):
            # Where it stands in the original takes a pass over a text beyond ASCII, for each of its readings.
            return not mention
        evidence = self._evidence(segment, reading, span)
        self._add(rule, evidence, hidden=bool(reading.via), mention=mention)
        if rule.response is Response.REDACT:
            masked = Sensitive(evidence.start, evidence.end, rule.id, rule.id)
            self._redactions.setdefault(segment.field, []).append(masked)
            return False
        return not mention

    def _judge(self, segment: Segment, reading: Reading) -> None:
        """Put a reading to the classifier's heads that speak of the segment's channel."""
        asked = [(rule, one.head) for rule, one in self._detector.judging if self._applies(rule, segment.direction)]
        judged = self._detector.classifier.judge(reading.text, [head for _, head in asked]) if asked else {}
        for rule, head in asked:
            if head not in judged:
                continue
            score, judgement = judged[head]
            told = verdict.score_of(rule, hidden=bool(reading.via), judged=score)
            if not self._is_news(rule, segment.field, round(told, 2)):
                continue
            evidence = self._evidence(segment, reading, (judgement.start, judgement.end))
            self._add(rule, evidence, hidden=bool(reading.via), judged=score)

    def _expects(self, rule: Rule, direction: Direction) -> float:
        """The most that personal data scores: little where it belongs, worth listing and masking, not a person's time.

        On its way out it never belongs. On its way in it does when the asset may handle its class. Of an asset that we
        do not know, nobody has said what it may be told; short of restricted data, what an application fetches for it
        is expected, and what people tell it is nobody's alarm (docs/decisions/0015).
        """
        if rule.data_class is None or direction is Direction.OUTPUT:
            return 1.0
        if self._asset is not None:
            return 1.0 if exceeds(rule.data_class, self._asset.data_classification) else verdict.SCORES[Level.LOW]
        if exceeds(rule.data_class, DataClassification.CONFIDENTIAL):
            return 1.0
        return verdict.UNDECLARED if direction is Direction.INPUT else verdict.SCORES[Level.LOW]

    def _compare(self, segment: Segment, reading: Reading, prompts: PromptIndex) -> None:
        wanted = [
            (rule, one.threshold) for rule, one in self._detector.similarity if self._applies(rule, segment.direction)
        ]
        likeness = prompts.closest(reading.text) if wanted else None
        for rule, threshold in wanted:
            if likeness is not None and likeness.similarity >= threshold:
                start, end = reading.origin(likeness.start, likeness.end)
                # An excerpt would show the prompt itself.
                shown = f"[{end - start} characters, {likeness.similarity:.2f} like a registered prompt]"
                self._add(rule, Evidence(segment.field, start, end, shown, reading.via), hidden=bool(reading.via))

    # -- figures -------------------------------------------------------------------------------------------------

    def _measure_text(self, segment: Segment, raw: Reading) -> None:
        text = segment.text
        figures: dict[Metric, float] = {}
        if len(text) >= _REPETITION_LENGTH:
            figures[Metric.REPETITION_RATIO] = self._repetition(text, raw.data)
        if not text.isascii():
            figures[Metric.INVISIBLE_BREAKS] = raw.breaks
            figures[Metric.HIDDEN_MESSAGE_LENGTH] = sum(len(message) for _, _, message in folding.smuggled(text))
            figures[Metric.BIDI_CONTROLS] = folding.bidi_controls(text)
            figures[Metric.MIXED_SCRIPT_WORDS] = raw.mixed
        for metric, value in figures.items():
            self._threshold(metric, value, segment.direction, (segment.field, len(text)))

    def _repetition(self, text: str, data: bytes) -> float:
        """How many times shorter compression makes a text; at most that where no rule could ask for more."""
        start = data[:_REPETITION_START]
        if len(start) < len(data):
            at_most = len(text) / len(zlib.compress(start, 1))
            if at_most <= self._detector.least_repetition:
                return at_most
        return len(text) / len(zlib.compress(data, 1))

    def _threshold(
        self,
        metric: Metric,
        value: float,
        direction: Direction,
        where: tuple[str, int],
        *,
        samples: int | None = None,
        by: str = "",
    ) -> None:
        """Put a figure to the rules that watch it; `where` is the field it is of, and how long that is."""
        for rule, detection in self._detector.statistical:
            if detection.metric is not metric or value <= detection.threshold or not self._applies(rule, direction):
                continue
            if samples is None or samples >= detection.min_samples:
                self._add(rule, Evidence(where[0], 0, where[1], _shown(metric, value, by)))

    def measure(self, measured: Measured | None) -> None:
        """Put usage, the session's figures and the rates to the rules that watch them."""
        interaction = self._interaction
        usage = {
            Metric.TOKENS_PER_REQUEST: float(interaction.tokens),
            Metric.COST_USD_PER_REQUEST: interaction.cost_usd,
        }
        for metric, value in usage.items():
            self._threshold(metric, value, interaction.direction, ("/usage", 0))
        if measured is None:
            return
        for metric, value in measured.figures.items():
            self._threshold(metric, value, interaction.direction, ("/content", 0), samples=measured.samples)
        for metric in {metric for metric, _ in measured.rates}:
            by = next(one for one in _STAND_IN["session"] if (metric, one) in measured.rates)
            value = measured.rates[metric, by]
            self._threshold(metric, value, interaction.direction, ("", 0), by=by)
        for rule, detection in self._detector.rates:
            by = next((one for one in _STAND_IN[detection.by] if (detection.metric, one) in measured.rates), "")
            if by and self._applies(rule, interaction.direction):
                value = measured.rates[detection.metric, by]
                if value > detection.threshold:
                    self._add(rule, Evidence("", 0, 0, _shown(detection.metric, value, by)))

    # -- policy --------------------------------------------------------------------------------------------------

    def check_policies(self) -> None:
        """Put the asset's own record to the policy rules."""
        asset = self._asset
        if asset is None:
            return
        for rule, detection in self._detector.policies:
            if detection.check not in ("data_class_exceeded", "asset_not_active"):
                self._check_tools(rule, asset)
            elif not self._applies(rule, self._interaction.direction):
                continue
            elif detection.check == "data_class_exceeded":
                self._check_data_class(rule, asset)
            elif asset.lifecycle is not Lifecycle.ACTIVE:
                self._add(rule, Evidence("/asset_id", 0, 0, f"the asset is {asset.lifecycle.value}"))

    def _check_tools(self, rule: Rule, asset: Asset) -> None:
        interaction = self._interaction
        called = [(interaction.tool, "/tool/name", interaction.direction)]
        # Messages name the tools that are called in them, each beside its arguments.
        called += [(one.tool, one.field, one.direction) for one in interaction.segments]
        for tool, field, direction in called:
            if tool is None or asset.authorizes(tool) or not self._applies(rule, direction):
                continue
            end = len(tool) if field == "/tool/name" else 0
            if asset.authorized_tools:
                shown = f"{tool[:120]} is not among the {len(asset.authorized_tools)} authorized tools"
                self._add(rule, Evidence(field, 0, end, shown))
            elif asset.asset_type is AssetType.AI_AGENT:
                # Nobody has said what this agent may call: listed, and no alert, or every new agent would raise them.
                shown = f"{tool[:120]} was called, and no tool is authorized for this agent"
                self._add(rule, Evidence(field, 0, end, shown), at_most=verdict.SCORES[Level.LOW])

    def _check_data_class(self, rule: Rule, asset: Asset) -> None:
        if self._highest is not None and exceeds(self._highest[0], asset.data_classification):
            found, evidence = self._highest
            shown = f"{found.value} data in an asset classified {asset.data_classification.value}: {evidence.excerpt}"
            self._add(rule, Evidence(evidence.field, evidence.start, evidence.end, shown, evidence.via))


def _shown(metric: Metric, value: float, by: str = "") -> str:
    return f"{metric.value}{f' of this {by}' if by else ''}: {value:.2f}"

"""Detection rules as data: what one looks for, where, and what it means.

A rule is written in YAML or sent over the API; both end here. The specification's five types of detection: regex over
text, similarity to registered prompt fragments, statistics of a text or a session, policy of an asset, and rates in a
window of time. And four of what only several interactions show: a tracker's signal, a sequence of acts, usage against
what is usual at this hour, and a budget. Patterns are RE2 syntax (no look-around, no back-references), so no text makes
one explode.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

import re2
import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from services.detection.domain import folding, taxonomy
from shared.contracts.detection import Direction, FindingKind, Severity
from shared.contracts.incidents import IncidentCategory
from shared.contracts.inventory import AssetType, DataClassification
from shared.errors import Conflict, Invalid

MAX_PROGRAM_SIZE = 20_000
"""Upper bound on a pattern's RE2 program, in steps: what it may take of memory."""
MAX_MEMORY_BYTES = 1_048_576
"""Upper bound on a pattern's program and RE2's cache of its states. With RE2's own 8 MB, 300 patterns that have seen an
afternoon of attacks held 77 MB more, for an eighth of speed on attacks and none on ordinary text."""
MAX_SCAN_SECONDS = 0.05
"""Upper bound on the CPU time of one rule's patterns over 64 KB that suit them badly. RE2 is linear in the text, yet a
single `(a.*b.*){1,100}c` takes 0.23 s a time; the slowest rule that ships takes 0.005 s."""


DATA_KINDS = frozenset({FindingKind.SECRET, FindingKind.PII})
"""What is masked wherever it is shown, and counted by itself: ten addresses are no more certain than one."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The pack takes the one in Python most of a second, at each start."""


class InvalidRule(Invalid):
    """The rule is not valid."""


class UnreadableRule(Conflict):
    """A later release wrote this rule, and this one cannot read it."""


class Level(StrEnum):
    """Sigma's levels, lowest first."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def severity(self) -> Severity:
        return Severity.INFO if self is Level.INFORMATIONAL else Severity(self.value)


class Status(StrEnum):
    """How far a rule is trusted. `shadow` findings are shown and never decide; `deprecated` rules do not run."""

    STABLE = "stable"
    TEST = "test"
    EXPERIMENTAL = "experimental"
    SHADOW = "shadow"
    DEPRECATED = "deprecated"


class Response(StrEnum):
    """What an enforced finding asks for, at most: a low score asks for less."""

    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"


class View(StrEnum):
    """Which reading of the text a pattern is for.

    `text` is folded (case, look-alikes, invisible characters) and decoded; `raw` is what was sent, for credentials and
    markup, where case and punctuation matter.
    """

    TEXT = "text"
    RAW = "raw"


class Validator(StrEnum):
    """Checks that a matched value must pass, see `validators`."""

    LUHN = "luhn"
    IBAN = "iban"
    PHONE = "phone"
    EMAIL = "email"
    US_SSN = "us_ssn"
    NATIONAL_ID = "national_id"
    WALLET = "wallet"
    STREET_ADDRESS = "street_address"
    SECRET = "secret"  # noqa: S105  # the name of a check
    ASSIGNED_SECRET = "assigned_secret"  # noqa: S105
    PASSWORD = "password"  # noqa: S105
    URL_PASSWORD = "url_password"  # noqa: S105
    BASIC_CREDENTIALS = "basic_credentials"
    PRIVATE_KEY = "private_key"
    JWT = "jwt"
    IP_ADDRESS = "ip_address"
    EXTERNAL_URL = "external_url"


class Metric(StrEnum):
    """What statistical and rate rules measure: bits a character, ratios, counts, calls, tokens, US dollars."""

    OUTPUT_ENTROPY_DELTA = "output_entropy_delta"
    OUTPUT_LENGTH_RATIO = "output_length_ratio"
    REPETITION_RATIO = "repetition_ratio"
    INVISIBLE_BREAKS = "invisible_breaks"
    HIDDEN_MESSAGE_LENGTH = "hidden_message_length"
    BIDI_CONTROLS = "bidi_controls"
    MIXED_SCRIPT_WORDS = "mixed_script_words"
    UNREAD_PATTERNS = "unread_patterns"
    TOOL_CALLS_PER_MINUTE = "tool_calls_per_minute"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    TOKENS_PER_REQUEST = "tokens_per_request"
    COST_USD_PER_HOUR = "cost_usd_per_hour"
    COST_USD_PER_REQUEST = "cost_usd_per_request"

    @property
    def window_seconds(self) -> int | None:
        """Length of the window that a rate is summed over; None for what is no rate."""
        return {"minute": 60, "hour": 3_600}.get(self.value.rsplit("_", 1)[-1])


class Signal(StrEnum):
    """What trackers make of several interactions of one session or actor; `trackers` says how each is reckoned."""

    ATTACK_HEAT = "attack_heat"
    RISING_ATTACK = "rising_attack"
    REPHRASED_REFUSAL = "rephrased_refusal"
    COMPLIED_AFTER_REFUSAL = "complied_after_refusal"
    SPLIT_PAYLOAD = "split_payload"
    BEHAVIOUR_SHIFT = "behaviour_shift"
    FAILED_CALLS = "failed_calls"
    DENIED_CALLS = "denied_calls"
    IDENTICAL_CALLS = "identical_calls"
    NEW_TOOL = "new_tool"
    ARGUMENT_ANOMALY = "argument_anomaly"
    PROMPT_IN_PIECES = "prompt_in_pieces"
    CANARY = "canary"
    SCRAPING = "scraping"
    MEMBERSHIP_PROBING = "membership_probing"


class Act(StrEnum):
    """What a tool does, as far as its name and arguments tell; a call may be several. `untrusted` is also any document
    and any result of a tool that reads what strangers write; a `credential_read` is a `sensitive_read` too."""

    UNTRUSTED = "untrusted"
    SENSITIVE_READ = "sensitive_read"
    EGRESS = "egress"
    EXECUTE = "execute"
    CREDENTIAL_READ = "credential_read"


class Amount(StrEnum):
    """What usage is counted in."""

    TOKENS = "tokens"
    COST_USD = "cost_usd"
    REQUESTS = "requests"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Pattern = Annotated[str, StringConstraints(min_length=3, max_length=4_000)]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=4, max_length=1_000)]
Threshold = Annotated[float, Field(ge=0, le=1e12, strict=True)]


class RegexDetection(Part):
    """Text that matches any of `any`, `pattern` and the literal `phrases`, all of `all`, and none of `unless`.

    Matching ignores case unless `case_sensitive`. A group named `value` narrows what is reported, masked and validated.
    A group named in capitals does too, and its name says what the value is: `(?P<NPM_TOKEN>...)` is masked as
    [NPM_TOKEN], and its check may depend on the name.
    `quotable` says that the same words inside quotation marks in a text about attacks are a mention, not a use.
    """

    type: Literal["regex"] = "regex"
    pattern: Pattern | None = None
    any: tuple[Pattern, ...] = Field(default=(), max_length=60)
    phrases: tuple[Phrase, ...] = Field(default=(), max_length=100)
    all: tuple[Pattern, ...] = Field(default=(), max_length=10)
    unless: tuple[Pattern, ...] = Field(default=(), max_length=20)
    view: View = View.TEXT
    case_sensitive: bool = Field(default=False, strict=True)
    quotable: bool = Field(default=False, strict=True)
    validator: Validator | None = None
    min_entropy: float | None = Field(default=None, ge=0, le=8, strict=True)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Every pattern of which one must match, phrases among them as patterns."""
        first = (self.pattern,) if self.pattern else ()
        return (*first, *self.any, *(phrase_pattern(phrase, self.view) for phrase in self.phrases))

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not (self.alternatives or self.all):
            raise ValueError("give pattern, any, phrases or all")
        return self


class SimilarityDetection(Part):
    """Output that repeats a fragment of a prompt registered for the asset, as cosine of word and word-pair counts."""

    type: Literal["similarity"] = "similarity"
    reference: Literal["system_prompt_embeddings", "system_prompt_fragments"] = "system_prompt_fragments"
    threshold: float = Field(default=0.85, gt=0, le=1, strict=True)


class ClassifierDetection(Part):
    """Text that a head of the trained classifier takes for an attack; the finding's score is the head's."""

    type: Literal["classifier"] = "classifier"
    head: Literal["injection", "jailbreak", "smuggled"]


class StatisticalDetection(Part):
    """A figure above its threshold; `min_samples` is how much of a session's history a comparison needs."""

    type: Literal["statistical"] = "statistical"
    metric: Metric
    threshold: Threshold
    min_samples: int = Field(default=3, ge=1, le=1_000)


class PolicyDetection(Part):
    """Something the asset's own record forbids.

    `tool_not_authorized`: the called tool is not in the asset's authorized_tools (the specification's
    `tool_name NOT IN agent.authorized_tools`). `data_class_exceeded`: data of a higher class than the asset may handle.
    `asset_not_active`: the asset is quarantined or retired.
    """

    type: Literal["policy"] = "policy"
    check: Literal[
        "tool_not_authorized", "tool_name NOT IN agent.authorized_tools", "data_class_exceeded", "asset_not_active"
    ]


class RateDetection(Part):
    """More than `threshold` of a metric within the metric's window, by session, actor or asset."""

    type: Literal["rate"] = "rate"
    metric: Metric
    threshold: Threshold
    by: Literal["session", "actor", "asset"] = "session"

    @model_validator(mode="after")
    def _metric_has_a_window(self) -> Self:
        if self.metric.window_seconds is None:
            raise ValueError(f"{self.metric.value} is not a rate; use type statistical")
        return self


class TrackerDetection(Part):
    """A tracker's signal at or above its threshold, reckoned from at least so many samples."""

    type: Literal["tracker"] = "tracker"
    signal: Signal
    threshold: float = Field(gt=0, le=1e12, strict=True)
    min_samples: int = Field(default=1, ge=1, le=1_000_000)


class SequenceDetection(Part):
    """Acts of one session in this order, the last of them now, within so many turns and seconds.

    A sequence by itself is what agents do all day. So points are asked for (`trackers.tools` has the reasons): 1 for
    the sequence, 1 when the last act's destination or command comes from the untrusted content, 1 when it carries
    pieces of what was read or is one command with the reading, 1 when the untrusted content looked like an attack, half
    when the command runs what it fetches, half when the destination is new for the tool.
    """

    type: Literal["sequence"] = "sequence"
    steps: tuple[Act, ...] = Field(min_length=2, max_length=4)
    within_turns: int = Field(default=20, ge=1, le=24)
    within_seconds: int = Field(default=3_600, ge=1, le=86_400)
    threshold: float = Field(default=2.5, ge=1, le=5, strict=True)


class UsageDetection(Part):
    """More of an amount in an hour than this hour usually has; `usage` says how that is learned.

    Fires when the hour's amount exceeds each of: `ratio` times what is expected, the expectation by `deviations` robust
    standard deviations of its logarithm, `over_peak` times the highest hour (an actor: day) on record, and `least`; in
    `hours` hours in a row, the current one among them. By actor, the asset's own expectation has to be exceeded too, by
    `asset_share` times.
    """

    type: Literal["usage"] = "usage"
    amount: Amount
    by: Literal["actor", "asset"] = "asset"
    least: float = Field(ge=0, le=1e12, strict=True)
    ratio: float = Field(default=4.0, ge=1, le=1e6, strict=True)
    deviations: float = Field(default=5.0, ge=0, le=100, strict=True)
    over_peak: float = Field(default=1.0, ge=0, le=1e6, strict=True)
    asset_share: float = Field(default=1.0, ge=0, le=1e6, strict=True)
    hours: int = Field(default=1, ge=1, le=24)
    min_days: int = Field(default=7, ge=1, le=28)


class BudgetDetection(Part):
    """A share of an asset's budget is used up: `percent` of what was set for the period, once a period."""

    type: Literal["budget"] = "budget"
    percent: float = Field(gt=0, le=1_000, strict=True)


Detection = Annotated[
    RegexDetection
    | ClassifierDetection
    | SimilarityDetection
    | StatisticalDetection
    | PolicyDetection
    | RateDetection
    | TrackerDetection
    | SequenceDetection
    | UsageDetection
    | BudgetDetection,
    Field(discriminator="type"),
]


class Scope(Part):
    """Where a rule applies. Empty asset lists mean everywhere."""

    directions: tuple[Direction, ...] = Field(default=tuple(Direction), min_length=1)
    asset_ids: tuple[UUID, ...] = Field(default=(), max_length=1_000)
    asset_types: tuple[AssetType, ...] = ()


class Turn(Part):
    """One interaction of an example that needs several; `repeat` says it as often, `{n}` in it being the count."""

    content: str = ""
    direction: Direction = Direction.INPUT
    tool: str | None = None
    arguments: dict[str, Any] = {}
    failed: bool = False
    repeat: int = Field(default=1, ge=1, le=2_000)
    session: str = "example"
    seconds: float = Field(default=10.0, ge=0, le=864_000, description="How long after the turn before.")


class Hours(Part):
    """Ordinary usage, so much an hour for so many days, and then what the current hours have; for usage and budgets."""

    days: int = Field(default=28, ge=0, le=60)
    usual: float = Field(default=0.0, ge=0)
    current: tuple[float, ...] = Field(min_length=1, max_length=48)
    asset_usual: float | None = Field(default=None, ge=0)
    budget: float | None = Field(default=None, gt=0)


class Example(Part):
    """An interaction for a rule to be tried on, `repeat` times; `before` are the session's earlier outputs.

    Its text is the content, `copies` times over.

    `turns` in place of content is a whole session, of which any turn may make the rule fire; `usage_hours` is the
    usage of an asset or actor.
    """

    turns: tuple[Turn, ...] = Field(default=(), max_length=200)
    usage_hours: Hours | None = None
    canaries: tuple[str, ...] = ()

    content: str = ""
    direction: Direction | None = None
    tool: str | None = None
    arguments: dict[str, Any] = {}
    before: tuple[str, ...] = ()
    repeat: int = Field(default=1, ge=1, le=2_000)
    copies: int = Field(default=1, ge=1, le=2_000)
    asset: dict[str, Any] | None = None
    references: tuple[str, ...] = ()
    usage: dict[str, float] | None = None


def _as_example(value: Any) -> Any:
    return {"content": value} if isinstance(value, str) else value


class Examples(Part):
    match: tuple[Example, ...] = Field(default=(), max_length=50)
    near_miss: tuple[Example, ...] = Field(default=(), max_length=50)

    @model_validator(mode="before")
    @classmethod
    def _plain_strings(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            key: [_as_example(one) for one in value] if isinstance(value, list) else value
            for key, value in data.items()
        }


Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=256)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{2,99}$")]


class Rule(Part):
    """One detection rule."""

    FILE_SUFFIX: ClassVar[str] = ".yaml"

    id: RuleId
    title: Title
    description: str = Field(default="", max_length=4_000)
    status: Status = Status.TEST
    level: Level
    kind: FindingKind
    category: IncidentCategory
    owasp: tuple[str, ...] = Field(default=(), max_length=20)
    atlas: tuple[str, ...] = Field(default=(), max_length=20)
    falsepositives: tuple[Sentence, ...] = Field(default=(), max_length=20)
    triage: tuple[Sentence, ...] = Field(default=(), max_length=20)
    scope: Scope = Scope()
    detection: Detection
    response: Response = Response.BLOCK
    data_class: DataClassification | None = None
    confidence: float = Field(default=1.0, gt=0, le=1, strict=True)
    examples: Examples = Examples()
    expires_at: AwareDatetime | None = None

    @field_validator("owasp", "atlas")
    @classmethod
    def _known_references(cls, listed: tuple[str, ...], field: ValidationInfo) -> tuple[str, ...]:
        known = taxonomy.OWASP if field.field_name == "owasp" else taxonomy.ATLAS
        for one in listed:
            if one not in known:
                raise ValueError(f"{one!r} is not an id that we know")
        return listed

    def applies_at(self, now: datetime) -> bool:
        return self.status is not Status.DEPRECATED and (self.expires_at is None or now < self.expires_at)


def phrase_pattern(phrase: str, view: View) -> str:
    """A literal phrase as a pattern that forgives spacing and, in the folded view, everything folding forgives."""
    words = (folding.fold(phrase) if view is View.TEXT else phrase).split()
    pattern = r"\s+".join(re2.escape(word) for word in words)
    first = r"\b" if words and words[0][:1].isascii() and words[0][:1].isalnum() else ""
    last = r"\b" if words and words[-1][-1:].isascii() and words[-1][-1:].isalnum() else ""
    return first + pattern + last


_NON_ASCII = re.compile(r"[^\x00-\x7f]")


def fold_pattern(pattern: str) -> str:
    """A pattern for the folded view: its letters folded as the text's are, where one letter stays one letter.

    Without it a Russian or French pattern could never match, for the text has lost the marks that the pattern names.
    """
    return _NON_ASCII.sub(
        lambda match: folded if len(folded := folding.fold(match.group())) == 1 else match.group(), pattern
    )


def compile_pattern(pattern: str, *, case_sensitive: bool, field: str, capturing: bool = True) -> Any:
    """One pattern under RE2; not `capturing`, its groups are not told, which long matches cost dear.

    Raises:
        InvalidRule: it is not RE2 syntax, or matches everything; `field` is the JSON Pointer of the pattern.
    """
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.log_errors = False
    options.never_capture = not capturing
    options.max_mem = MAX_MEMORY_BYTES
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise InvalidRule(f"the pattern does not compile: {reason}", field=field) from error
    if compiled.search(b"") is not None:
        raise InvalidRule("the pattern matches the empty text", field=field)
    return compiled


def patterns_of(rule: Rule) -> list[tuple[str, str, str]]:
    """Every pattern of a regex rule as (role, JSON Pointer, pattern as it is matched). Other rules have none."""
    detection = rule.detection
    if not isinstance(detection, RegexDetection):
        return []
    listed = [("any", "/detection/pattern", detection.pattern)] if detection.pattern else []
    listed += [("any", f"/detection/any/{at}", one) for at, one in enumerate(detection.any)]
    listed += [
        ("any", f"/detection/phrases/{at}", phrase_pattern(one, detection.view))
        for at, one in enumerate(detection.phrases)
    ]
    listed += [("all", f"/detection/all/{at}", one) for at, one in enumerate(detection.all)]
    listed += [("unless", f"/detection/unless/{at}", one) for at, one in enumerate(detection.unless)]
    if detection.view is View.TEXT:
        return [(role, field, fold_pattern(pattern)) for role, field, pattern in listed]
    return listed


def check(rule: Rule) -> None:
    """Refuse a rule with a pattern that cannot run, or not fast enough for one that nobody reviewed.

    Raises:
        InvalidRule: names the field.
    """
    seconds = 0.0
    for _, field, pattern in patterns_of(rule):
        compiled = compile_pattern(pattern, case_sensitive=_case_sensitive(rule), field=field)
        if compiled.programsize > MAX_PROGRAM_SIZE:
            raise InvalidRule(
                f"the pattern is too large: {compiled.programsize} of at most {MAX_PROGRAM_SIZE} steps", field=field
            )
        seconds += _slowest_scan(compiled, pattern)
        if seconds > MAX_SCAN_SECONDS:
            raise InvalidRule(f"up to this pattern the rule takes over {MAX_SCAN_SECONDS} s for 64 KB", field=field)


def _slowest_scan(compiled: Any, pattern: str) -> float:
    """CPU seconds of the slowest of a few texts made to keep the pattern busy: its own letters, over and over."""
    letters = "".join(dict.fromkeys(re.findall(r"[A-Za-z0-9]", pattern)))[:40] or "ab"
    slowest = 0.0
    for motif in (letters, letters[:1], letters[:2] + " ", " ".join(letters) + "\n"):
        text = (motif * (65_536 // len(motif) + 1)).encode()[:65_536]
        started = time.thread_time()
        compiled.search(text)
        slowest = max(slowest, time.thread_time() - started)
    return slowest


def _case_sensitive(rule: Rule) -> bool:
    return isinstance(rule.detection, RegexDetection) and rule.detection.case_sensitive


def parse(document: str) -> Rule:
    """A rule from its YAML file.

    Raises:
        InvalidRule: it is not YAML, or not a rule.
    """
    try:
        rule = Rule.model_validate(yaml.load(document, Loader=_LOADER))  # noqa: S506  # both make plain values only
    except yaml.YAMLError as error:
        raise InvalidRule(f"not YAML: {error}") from error
    except ValidationError as error:
        problems = [
            {"field": "/" + "/".join(map(str, one["loc"])), "message": one["msg"]}
            for one in error.errors(include_url=False)
        ]
        raise InvalidRule("the rule is not valid", errors=problems) from error
    return rule

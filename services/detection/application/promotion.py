"""From shadow to deciding and back: rules earn it by their record, and lose it by their record.

A rule of one's own decides when the benign texts show it to be quiet, and, where it was in shadow, its live record too.
Rules that end within days are orders for an emergency and are in force at once. Whatever decides goes back to shadow by
itself when people judge too many of its alerts false.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.detection import pack
from services.detection.application import SYSTEM
from services.detection.application.trials import TextRecord
from services.detection.domain.figures import wilson
from services.detection.domain.rules import Rule, Status
from services.detection.settings import DetectionSettings
from services.detection.store import performance
from services.detection.store import rules as store
from services.detection.store.performance import Judged
from services.detection.store.rules import StoredRule
from shared.contracts.detection import Disposition
from shared.database import Tx
from shared.errors import Conflict

WINDOW = timedelta(days=30)
"""How far back a record reaches."""


class NotQuiet(Conflict):
    """The rule's record does not allow it to decide."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a record is held against; shares between 0 and 1, see DetectionSettings."""

    text_rate: float
    live_rate: float
    least_inspected: int
    false_share: float
    least_judged: int
    emergency: timedelta

    @classmethod
    def of(cls, settings: DetectionSettings) -> Limits:
        return cls(
            settings.promotion_text_rate,
            settings.promotion_live_rate,
            settings.promotion_least_inspected,
            settings.demotion_false_share,
            settings.demotion_least_judged,
            timedelta(days=settings.emergency_days),
        )


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """What a rule did in harmless live traffic while it was in shadow.

    Harmless is what no rule that decides held anything of: of an attack that only this one sees it cannot be told from
    a false positive, and counts as one.
    """

    inspected: int
    fired: int

    @property
    def upper(self) -> float:
        return wilson(self.fired, self.inspected)[1]

    def figures(self) -> dict[str, Any]:
        rate = self.fired / self.inspected if self.inspected else None
        return {"inspected": self.inspected, "fired": self.fired, "rate": rate, "upper_95": round(self.upper, 6)}


def decides(rule: Rule) -> bool:
    return rule.status not in (Status.SHADOW, Status.DEPRECATED)


def is_emergency(rule: Rule, limits: Limits, now: datetime) -> bool:
    """Whether a rule ends soon enough to be in force without a trial."""
    return rule.expires_at is not None and rule.expires_at <= now + limits.emergency


def fires_alike(one: Rule, other: Rule) -> bool:
    """Whether two forms of a rule fire on the same."""
    return (one.detection, one.scope, one.kind) == (other.detection, other.scope, other.kind)


def demand_quiet_on_texts(record: TextRecord, rate: float) -> None:
    """Refuse a rule that is too loud on the benign texts.

    Raises:
        NotQuiet: names the texts.
    """
    if record.upper > rate:
        raise NotQuiet(
            f"it fires on {len(record.fired)} of {record.texts} benign regression texts: its false-positive rate "
            f"may be up to {record.upper:.2%}, and {rate:.2%} is allowed. Create it with status shadow",
            figure="benign_texts",
            limit=rate,
            **record.figures(),
        )


async def live_record(tx: Tx, stored: StoredRule, now: datetime) -> LiveRecord:
    """A rule's record in shadow, in the form in which it fires now."""
    known = await performance.records(tx, SYSTEM, [stored.rule.id], now - WINDOW)
    counted = [one for one in known if one.version >= stored.judged_from and one.status == Status.SHADOW.value]
    return LiveRecord(sum(one.inspected_benign for one in counted), sum(one.fired_benign for one in counted))


async def demand_quiet_live(tx: Tx, stored: StoredRule, rate: float, limits: Limits, now: datetime) -> LiveRecord:
    """Refuse a rule that saw too little harmless traffic in shadow, or fired too often in it.

    Raises:
        NotQuiet: says which figure failed.
    """
    record = await live_record(tx, stored, now)
    if record.inspected < limits.least_inspected:
        raise NotQuiet(
            f"in shadow it has seen {record.inspected} harmless interactions of at least {limits.least_inspected}",
            figure="live_inspected",
            limit=limits.least_inspected,
            **record.figures(),
        )
    if record.upper > rate:
        raise NotQuiet(
            f"it fired on {record.fired} of {record.inspected} harmless interactions: its false-positive rate "
            f"may be up to {record.upper:.2%}, and {rate:.2%} is allowed",
            figure="live_false_positive_rate",
            limit=rate,
            **record.figures(),
        )
    return record


def promoted(
    standing: StoredRule, status: Status | None, rate: float | None, reason: str, figures: dict[str, Any], by: str,
    now: datetime,
) -> StoredRule:  # fmt: skip
    """The rule as it is once it decides. A shipped one gets the status that it ships with, and stays the release's."""
    shipped = pack.shipped().get(standing.rule.id) if standing.origin == "builtin" else None
    status = status or (shipped.rule.status if shipped is not None else Status.TEST)
    version = standing.version + 1
    return replace(
        standing,
        rule=standing.rule.model_copy(update={"status": status}),
        version=version,
        on_trial=False,
        judged_from=version,
        stated_rate=rate,
        updated_at=now,
        status_reason=_because("promoted", reason, figures, by, now),
    )


async def noisy(tx: Tx, rule_id: str, limits: Limits, now: datetime) -> StoredRule | None:
    """The rule as it is in shadow, if its judged alerts show too many false ones; locked. None when they do not.

    Raises:
        UnreadableRule
    """
    standing = await store.get(tx, SYSTEM, rule_id, lock=True)
    if standing is None or not decides(standing.rule):
        return None
    listed = _that_count(standing.rule, await performance.judged(tx, rule_id, standing.judged_from, now - WINDOW))
    false = sum(one.alerts for one in listed if one.disposition is Disposition.FALSE_POSITIVE)
    true = sum(one.alerts for one in listed if one.disposition is Disposition.TRUE_POSITIVE)
    if false + true < limits.least_judged or not false:
        return None
    share = wilson(false, false + true)[0]
    figures = {"judged_true": true, "judged_false": false, "false_share_lower_95": round(share, 6)}
    if share > limits.false_share:
        reason = (
            f"{false} of {false + true} judged alerts were false: the share of false ones is at least {share:.1%}, and "
            f"{limits.false_share:.0%} is allowed"
        )
        return _in_shadow(standing, reason, figures | {"limit": limits.false_share}, now)
    known = await performance.records(tx, SYSTEM, [rule_id], now - WINDOW)
    inspected = sum(one.inspected for one in known if one.version >= standing.judged_from)
    findings = sum(one.findings for one in listed if one.disposition is Disposition.FALSE_POSITIVE)
    rate = standing.stated_rate or limits.live_rate
    least = wilson(min(findings, inspected), inspected)[0]
    if inspected >= limits.least_inspected and least > rate:
        figures |= {"inspected": inspected, "false_findings": findings, "false_positive_rate_lower_95": round(least, 6)}
        reason = (
            f"{findings} findings in {inspected} interactions were judged false: the false-positive rate is at least "
            f"{least:.2%}, and {rate:.2%} is allowed"
        )
        return _in_shadow(standing, reason, figures | {"limit": rate}, now)
    return None


def _that_count(rule: Rule, listed: list[Judged]) -> list[Judged]:
    """The judgements that count against a rule.

    One team alone does not put a rule out of force that guards everybody: of callers who are bound to teams, those
    count that another team bears out, or that concern a rule for certain assets. A team has suppressions for itself.
    """
    false_of = {one.owner_team for one in listed if one.disposition is Disposition.FALSE_POSITIVE}
    if rule.scope.asset_ids or len(false_of) > 1:
        return listed
    return [one for one in listed if one.widely]


def _in_shadow(standing: StoredRule, reason: str, figures: dict[str, Any], now: datetime) -> StoredRule:
    version = standing.version + 1
    return replace(
        standing,
        rule=standing.rule.model_copy(update={"status": Status.SHADOW}),
        version=version,
        on_trial=True,
        judged_from=version,
        updated_at=now,
        status_reason=_because("demoted", reason, figures, SYSTEM.subject, now),
    )


def _because(change: str, reason: str, figures: dict[str, Any], by: str, now: datetime) -> dict[str, Any]:
    return {"change": change, "reason": reason, "figures": figures, "by": by, "at": now.isoformat()}

"""Maturity of the program, in seven dimensions and five levels.

The ladders of Asset Management, Incident Response and Red Teaming are the specification's. The other four follow its
shape: a level is reached when every test of it and of the levels below is met, and a test whose figure is unknown is
not met. A dimension that nothing was measured of is level 1 without a score; it is never good by absence.

Dimension: what levels 2, 3 and 4 ask for, level by level; then the score.

- Asset Management: coverage >= 50%; >= 80%; >= 95%. Score: coverage x 100.
- Incident Response: mean time to detect < 24 h; < 4 h; < 1 h and mean time to contain < 4 h.
  Score: 100 - 5 x hours to detect, at least 0.
- Red Teaming: 1 engagement this year; 2; 4 and 90% of findings remediated. Score: 25 x engagements, at most 100.
- Risk Management: assessed assets >= 50%; >= 80% and CRITICAL ones at most 5% of the estate; >= 95%, CRITICAL at most
  1% and the mean residual risk below 50, where HIGH begins. Score: assessed share x (100 - mean residual risk).
- Technical Controls: assets with an operational control >= 50%; >= 80%; >= 95% and 90% of deployed ones operational.
  Score: share of assets with an operational control x 100.
- Governance: 1 policy in force; 5 and the risk appetite stated; a decision of the oversight board on record and at most
  5% of tracked actions overdue. Score: 20 x policies in force, at most 100.
- Compliance: assets without any compliance gap >= 50%; >= 80%; >= 95%. Score: their share x 100.

Level 5 is about staying good, which one look cannot show: it needs level 4 now and at each of the four quarters before
(QUARTER_DAYS apart). For Red Teaming, whose count starts anew each January, that takes engagements all year round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal

from services.metrics.domain.figures import Value

LEVEL_NAMES: dict[int, str] = {
    1: "Initial",
    2: "Managed",
    3: "Defined",
    4: "Quantitatively Managed",
    5: "Optimizing",
}

QUARTER_DAYS = 91
EARLIER_QUARTERS = 4

# Percent of assets that levels 2, 3 and 4 ask for wherever a dimension measures a share of the estate.
SHARE_LADDER = (50, 80, 95)
# The policies that the specification names: acceptable use, model procurement, data handling, red teaming, incident
# classification.
POLICIES_EXPECTED = 5

Figures = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class MaturityLevel:
    """How mature one dimension of the program is.

    Attributes:
        level: 1 to 5; level_name is its CMMI-inspired name.
        score: 0 to 100, null where nothing was measured.
        has_data: False where nothing was measured.
        evidence: the figures that the level rests on.
        gaps_to_next_level: what is still missing for the next level; empty at level 5.
    """

    dimension: str
    level: int
    level_name: str
    score: float | None
    has_data: bool
    evidence: tuple[str, ...]
    gaps_to_next_level: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Test:
    met: bool
    gap: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """A dimension's figures, read: `rungs` are the tests of levels 2, 3 and 4."""

    score: float | None
    evidence: tuple[str, ...]
    rungs: tuple[tuple[_Test, ...], ...]

    @property
    def level(self) -> int:
        level = 1
        for tests in self.rungs:
            if not all(test.met for test in tests):
                break
            level += 1
        return level


def assess(now: Figures, quarters: Sequence[Figures] = ()) -> tuple[MaturityLevel, ...]:
    """The level of every dimension.

    Args:
        now: figures by name, as `figures.values` gives them.
        quarters: the same at the EARLIER_QUARTERS quarters before, for level 5; fewer can not show it.
    """
    return tuple(_assess(dimension, read, now, quarters) for dimension, read in DIMENSIONS.items())


def _assess(
    dimension: str, read: Callable[[Figures], _Reading], now: Figures, quarters: Sequence[Figures]
) -> MaturityLevel:
    reading = read(now)
    level = reading.level
    found = MaturityLevel(
        dimension=dimension,
        level=level,
        level_name=LEVEL_NAMES[level],
        score=None if reading.score is None else round(reading.score, 2),
        has_data=reading.score is not None,
        evidence=reading.evidence,
        gaps_to_next_level=(),
    )
    if level < 4:
        return replace(found, gaps_to_next_level=tuple(test.gap for test in reading.rungs[level - 1] if not test.met))
    held = sum(read(figures).level == 4 for figures in quarters[:EARLIER_QUARTERS])
    if held < EARLIER_QUARTERS:
        gap = (
            f"Stay at level 4 for a year: it was reached at {held} of the {EARLIER_QUARTERS} quarters before this one."
        )
        return replace(found, gaps_to_next_level=(gap,))
    sustained = f"Level 4 was reached at each of the {EARLIER_QUARTERS} quarters before this one."
    return replace(found, level=5, level_name=LEVEL_NAMES[5], evidence=(*found.evidence, sustained))


def _asset_management(figures: Figures) -> _Reading:
    total, reviewed = _count(figures, "total_ai_assets"), _count(figures, "assets_with_security_review")
    coverage = _number(figures, "asset_coverage_rate")
    return _Reading(
        score=None if coverage is None else coverage * 100,
        evidence=(
            f"Asset coverage (assets with a security review): {as_percent(coverage)}",
            f"Assets tracked: {_shown(figures, 'total_ai_assets')}",
            f"Stale reviews: {_shown(figures, 'assets_with_stale_review')}",
        ),
        rungs=_share_rungs(coverage, reviewed, total, "security-reviewed", "Review the security of"),
    )


def _incident_response(figures: Figures) -> _Reading:
    detect = _number(figures, "mean_time_to_detect_hours")
    contain = _number(figures, "mean_time_to_contain_hours")

    def detected_within(hours: int) -> _Test:
        if detect is None:
            return _Test(False, "Record incidents with their first evidence, so that the time to detect is known.")
        gap = f"Bring the mean time to detect below {hours} h; it is {_hours(detect)}."
        return _Test(detect < hours, gap)

    contained = _Test(
        contain is not None and contain < 4,
        "Contain incidents, so that the time to contain is known."
        if contain is None
        else f"Bring the mean time to contain below 4 h; it is {_hours(contain)}.",
    )
    return _Reading(
        score=None if detect is None else max(0.0, 100 - detect * 5),
        evidence=(
            f"Mean time to detect: {_hours(detect)}",
            f"Mean time to contain: {_hours(contain)}",
            f"Incidents in the last 30 days: {_shown(figures, 'incidents_last_30_days')}",
        ),
        rungs=((detected_within(24),), (detected_within(4),), (detected_within(1), contained)),
    )


def _red_teaming(figures: Figures) -> _Reading:
    engagements = _count(figures, "red_team_engagements_ytd")
    remediation = _number(figures, "remediation_rate")

    def conducted(wanted: int) -> _Test:
        missing = wanted - engagements
        noun = "engagement" if missing == 1 else "engagements"
        return _Test(engagements >= wanted, f"Conduct {missing} more red-team {noun} this year, {wanted} in all.")

    remediated = _Test(
        remediation is not None and remediation >= 0.90,
        "Record what red teaming finds, so that the remediation rate is known."
        if remediation is None
        else f"Remediate 90% of red-team findings; {as_percent(remediation)} are.",
    )
    return _Reading(
        # No engagement is a fact, not a missing one: governance keeps the list.
        score=None if figures["red_team_engagements_ytd"] is None else min(100.0, engagements * 25.0),
        evidence=(
            f"Engagements this year: {_shown(figures, 'red_team_engagements_ytd')}",
            f"Findings: {_shown(figures, 'findings_from_red_team')}",
            f"Remediation rate: {as_percent(remediation)}",
        ),
        rungs=((conducted(1),), (conducted(2),), (conducted(4), remediated)),
    )


def _risk_management(figures: Figures) -> _Reading:
    total = _count(figures, "total_ai_assets")
    critical, mean = _number(figures, "critical_risk_assets"), _number(figures, "mean_residual_risk")
    share = _number(figures, "assessed_rate")
    assessed = _count(figures, "assets_assessed")
    scored = _share_rungs(share, assessed, total, "risk-assessed", "Assess the risk of")

    def at_most_critical(percent: int) -> _Test:
        allowed = total * percent // 100
        return _Test(
            bool(assessed) and critical is not None and critical <= allowed,
            f"Treat CRITICAL assets until at most {percent}% of the estate ({allowed}) are left; "
            f"there are {_plain(critical)}.",
        )

    below_high = _Test(
        mean is not None and mean < 50, f"Bring the mean residual risk below 50 (HIGH); it is {_plain(mean)}."
    )
    return _Reading(
        score=None if share is None or mean is None else share * (100 - mean),
        evidence=(
            f"Risk-assessed assets: {as_percent(share)}",
            f"Mean residual risk: {_plain(mean)}",
            f"CRITICAL assets: {_plain(critical)}",
            f"Risk acceptances in force: {_shown(figures, 'risk_acceptance_count')}",
        ),
        rungs=(scored[0], (*scored[1], at_most_critical(5)), (*scored[2], at_most_critical(1), below_high)),
    )


def _technical_controls(figures: Figures) -> _Reading:
    total, deployed = _count(figures, "total_ai_assets"), _count(figures, "controls_deployed")
    # With no deployment on record nobody told us of controls: that is no measurement of their absence.
    share = _number(figures, "control_coverage_rate") if deployed else None
    working = _number(figures, "control_operational_rate")
    controlled = _count(figures, "assets_controlled")
    covered = _share_rungs(share, controlled, total, "controlled", "Put a control into operation on")
    kept_working = _Test(
        working is not None and working >= 0.90,
        f"Bring 90% of the deployed controls into operation; {as_percent(working)} are.",
    )
    return _Reading(
        score=None if share is None else share * 100,
        evidence=(
            f"Assets with an operational control: {as_percent(share)}",
            f"Controls deployed: {_shown(figures, 'controls_deployed')}",
            f"Controls operational: {_shown(figures, 'controls_operational')}",
        ),
        rungs=(covered[0], covered[1], (*covered[2], kept_working)),
    )


def _governance(figures: Figures) -> _Reading:
    policies = _count(figures, "policies_in_force")
    appetite, decisions = _count(figures, "risk_appetite_set") > 0, _count(figures, "board_decisions")
    tracked, overdue = _count(figures, "actions_tracked"), _count(figures, "overdue_actions")

    def policies_in_force(wanted: int) -> _Test:
        missing = wanted - policies
        noun = "policy" if missing == 1 else "policies"
        return _Test(policies >= wanted, f"Approve {missing} more {noun}, {wanted} in all.")

    punctual = _Test(
        tracked > 0 and overdue * 100 <= tracked * 5,
        "Track actions by a due date, so that lateness is known."
        if not tracked
        else f"Finish overdue actions until at most 5% of the {tracked} tracked are late; {overdue} are.",
    )
    return _Reading(
        score=min(100.0, policies * 20.0) if policies or appetite or decisions or tracked else None,
        evidence=(
            f"Policies in force: {_shown(figures, 'policies_in_force')}",
            f"Risk appetite: {'stated' if appetite else 'no data'}",
            f"Board decisions on record: {_shown(figures, 'board_decisions')}",
            f"Overdue actions: {f'{overdue} of {tracked} tracked' if tracked else 'no data'}",
        ),
        rungs=(
            (policies_in_force(1),),
            (policies_in_force(POLICIES_EXPECTED), _Test(appetite, "State the organisation's risk appetite.")),
            (_Test(decisions > 0, "Record the oversight board's first decision."), punctual),
        ),
    )


def _compliance(figures: Figures) -> _Reading:
    total, share = _count(figures, "total_ai_assets"), _number(figures, "gap_free_rate")
    gap_free = _count(figures, "assets_gap_free")
    return _Reading(
        score=None if share is None else share * 100,
        evidence=(
            f"Assets without a compliance gap: {as_percent(share)}",
            f"Compliance gaps: {_count(figures, 'compliance_gap_count') if total else 'no data'}",
        ),
        rungs=_share_rungs(share, gap_free, total, "free of gaps", "Close the compliance gaps of"),
    )


DIMENSIONS: dict[str, Callable[[Figures], _Reading]] = {
    "Asset Management": _asset_management,
    "Incident Response": _incident_response,
    "Red Teaming": _red_teaming,
    "Risk Management": _risk_management,
    "Technical Controls": _technical_controls,
    "Governance": _governance,
    "Compliance": _compliance,
}


def _share_rungs(
    share: float | None, counted: int, total: int, quality: str, verb: str
) -> tuple[tuple[_Test, ...], tuple[_Test, ...], tuple[_Test, ...]]:
    def reached(percent: int) -> tuple[_Test, ...]:
        if share is None:
            return (_Test(False, f"There is no data yet on the share of assets that are {quality}: begin with it."),)
        missing = -(-percent * total // 100) - counted
        noun = "asset" if missing == 1 else "assets"
        gap = f"{verb} {missing} more {noun}: {as_percent(share)} are {quality}, {percent}% are needed."
        return (_Test(share >= percent / 100, gap),)

    return reached(SHARE_LADDER[0]), reached(SHARE_LADDER[1]), reached(SHARE_LADDER[2])


def _number(figures: Figures, name: str) -> float | None:
    value = figures[name]
    return None if value is None else float(value)


def _count(figures: Figures, name: str) -> int:
    return int(figures[name] or 0)


# What is shown is cut off, never rounded up: a figure just under a threshold must not read as if it had reached it.
def _cut(number: Decimal, step: str) -> Decimal:
    return number.quantize(Decimal(step), rounding=ROUND_DOWN)


def as_percent(share: float | None) -> str:
    """A share as it is shown."""
    return "no data" if share is None else f"{_cut(Decimal(repr(share)) * 100, '0.01')}%"


def _hours(hours: float | None) -> str:
    return "no data" if hours is None else f"{_cut(Decimal(repr(hours)), '0.001')} h"


def _shown(figures: Figures, name: str) -> str:
    value = figures[name]
    return "no data" if value is None else str(value)


def _plain(number: float | None) -> str:
    return "no data" if number is None else f"{number:g}"

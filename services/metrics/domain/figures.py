"""The figures: each name of the program's metrics, with what it means and how it comes out of the ledger's totals.

One rule about the unknown: a count of things is zero when there are none, but a rate, a mean or a judgement about
things that nobody has looked at is null. No figure is good because nothing was measured.

A window in a name (last_30_days, ytd) is the figure's window; means of incident times and the split by category cover
the incidents detected in the last 365 days; every other figure says how things stand at the moment asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.metrics.domain.incidents import CATEGORY_COUNTERS
from services.metrics.domain.ledger import Counter, Totals
from shared.contracts.incidents import IncidentCategory
from shared.errors import Invalid

Value = int | float | None

MILLISECONDS_AN_HOUR = 3_600_000


class UnknownFigure(Invalid):
    """There is no figure of that name."""


class Unit(StrEnum):
    COUNT = "count"
    SHARE = "share"  # 0 to 1
    POINTS = "points"  # 0 to 100, of the risk scale
    HOURS = "hours"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the program.

    Attributes:
        counters: the ledger's counters that it is made of.
        by_team: whether it can be told for a team; the rest belongs to the organisation.
    """

    name: str
    unit: Unit
    definition: str
    counters: tuple[Counter, ...]
    of: Callable[[Totals], Value]
    by_team: bool = True


def _count(name: str, definition: str, *counters: Counter, by_team: bool = True) -> Figure:
    def value(totals: Totals) -> Value:
        return sum(totals[counter] for counter in counters)

    return Figure(name, Unit.COUNT, definition, counters, value, by_team)


def _assessed_count(name: str, definition: str, counter: Counter) -> Figure:
    def value(totals: Totals) -> Value:
        unknown = totals[Counter.ASSETS] > 0 and totals[Counter.ASSESSED] == 0
        return None if unknown else totals[counter]

    return Figure(name, Unit.COUNT, definition, (counter, Counter.ASSETS, Counter.ASSESSED), value)


def _share(name: str, definition: str, part: Counter, whole: Counter, *less: Counter) -> Figure:
    def value(totals: Totals) -> Value:
        counted = totals[part] - sum(totals[counter] for counter in less)
        return counted / totals[whole] if totals[whole] else None

    return Figure(name, Unit.SHARE, definition, (part, *less, whole), value)


def _mean_hours(name: str, definition: str, summed: Counter, counted: Counter) -> Figure:
    def value(totals: Totals) -> Value:
        return totals[summed] / totals[counted] / MILLISECONDS_AN_HOUR if totals[counted] else None

    return Figure(name, Unit.HOURS, definition, (summed, counted), value)


def _mean_residual(totals: Totals) -> Value:
    if not totals[Counter.ASSESSED]:
        return None
    return round(totals[Counter.RESIDUAL_CENTS] / totals[Counter.ASSESSED] / 100, 2)


# What the specification names, in its order.
PROGRAM: tuple[Figure, ...] = (
    _count("total_ai_assets", "Assets in the inventory that are not retired.", Counter.ASSETS),
    _count(
        "assets_with_security_review",
        "Assets with a recorded security review, however old.",
        Counter.REVIEWED,
    ),
    _count(
        "assets_with_stale_review",
        "Assets whose last security review is more than 90 days old. They are among those with a review.",
        Counter.STALE,
    ),
    _share(
        "asset_coverage_rate",
        "assets_with_security_review / total_ai_assets; null without assets. A stale review counts here, because "
        "assets_with_stale_review and compliance_gap_count already hold it against the program; current_review_rate "
        "leaves stale ones out.",
        Counter.REVIEWED,
        Counter.ASSETS,
    ),
    _assessed_count(
        "critical_risk_assets",
        "Assets whose latest residual risk is CRITICAL; null while there are assets and none has been assessed.",
        Counter.CRITICAL,
    ),
    _assessed_count(
        "high_risk_assets",
        "Assets whose latest residual risk is HIGH; null while there are assets and none has been assessed.",
        Counter.HIGH,
    ),
    Figure(
        "mean_residual_risk",
        Unit.POINTS,
        "Mean of the latest residual risk of the assessed assets, to two decimals; null when none has been assessed.",
        (Counter.RESIDUAL_CENTS, Counter.ASSESSED),
        _mean_residual,
    ),
    _count(
        "risk_acceptance_count",
        "Risk acceptances in force: granted, neither expired nor revoked. Exceptions from policy are "
        "policy_exceptions_in_force.",
        Counter.RISK_ACCEPTANCES,
    ),
    _count(
        "incidents_last_30_days",
        "Incidents detected in the 30 days before the moment asked about, whatever became of them.",
        Counter.INCIDENTS_MONTH,
    ),
    _mean_hours(
        "mean_time_to_detect_hours",
        "Mean of detected_at - occurred_at over incidents detected in the last 365 days; null without any.",
        Counter.DETECT_MILLISECONDS,
        Counter.DETECT_COUNT,
    ),
    _mean_hours(
        "mean_time_to_contain_hours",
        "Mean of contained_at - detected_at over the contained incidents detected in the last 365 days; null without "
        "any.",
        Counter.CONTAIN_MILLISECONDS,
        Counter.CONTAIN_COUNT,
    ),
    _mean_hours(
        "mean_time_to_resolve_hours",
        "Mean of resolved_at - detected_at over the resolved incidents detected in the last 365 days; null without "
        "any.",
        Counter.RESOLVE_MILLISECONDS,
        Counter.RESOLVE_COUNT,
    ),
    _count(
        "controls_deployed",
        "Controls in place on assets that are not retired, working or not; neither planned nor retired deployments.",
        Counter.DEPLOYED,
    ),
    _count("controls_operational", "Those of controls_deployed that are operational.", Counter.OPERATIONAL),
    _share(
        "control_coverage_rate",
        "Share of assets with at least one operational control of the ten types that the risk model counts; null "
        "without assets.",
        Counter.CONTROLLED,
        Counter.ASSETS,
    ),
    _count(
        "red_team_engagements_ytd",
        "Red-team engagements that started in the calendar year (UTC) of the moment asked about; planned and "
        "cancelled ones do not count.",
        Counter.ENGAGEMENTS_YEAR,
    ),
    _count("findings_from_red_team", "Red-team findings recorded so far.", Counter.FINDINGS),
    _count("findings_remediated", "Those of findings_from_red_team that are remediated.", Counter.FINDINGS_REMEDIATED),
    _share(
        "remediation_rate",
        "findings_remediated / findings_from_red_team; null without findings.",
        Counter.FINDINGS_REMEDIATED,
        Counter.FINDINGS,
    ),
    Figure(
        "compliance_gap_count",
        Unit.COUNT,
        "Entries of the six gap lists together: no security review, stale review, missing SBOM, unclassified data, no "
        "owner, public exposure of sensitive data. One asset may have several.",
        (
            Counter.ASSETS,
            Counter.REVIEWED,
            Counter.STALE,
            Counter.MISSING_SBOM,
            Counter.UNCLASSIFIED_DATA,
            Counter.NO_OWNER,
            Counter.PUBLIC_EXPOSURE_HIGH_SENSITIVITY,
        ),
        lambda totals: sum(gaps_of(totals).values()),
    ),
    _count(
        "overdue_actions",
        "Owed and late: steps past their timeout in incidents that are not resolved, reviews past their day, and open "
        "red-team findings past theirs.",
        Counter.OVERDUE_STEPS,
        Counter.OVERDUE_REVIEWS,
        Counter.OVERDUE_FINDINGS,
    ),
)

# What we measure beside it: the maturity of four more dimensions rests on these.
BESIDE: tuple[Figure, ...] = (
    _count("assets_assessed", "Assets with a residual risk score.", Counter.ASSESSED),
    _count("assets_controlled", "Assets that control_coverage_rate counts as covered.", Counter.CONTROLLED),
    _count("assets_gap_free", "Assets with none of the six compliance gaps.", Counter.GAP_FREE),
    _share(
        "current_review_rate",
        "Share of assets whose security review is not stale; null without assets.",
        Counter.REVIEWED,
        Counter.ASSETS,
        Counter.STALE,
    ),
    _share(
        "assessed_rate",
        "Share of assets with a residual risk score; null without assets.",
        Counter.ASSESSED,
        Counter.ASSETS,
    ),
    _share(
        "gap_free_rate",
        "Share of assets with none of the six compliance gaps; null without assets.",
        Counter.GAP_FREE,
        Counter.ASSETS,
    ),
    _share(
        "control_operational_rate",
        "controls_operational / controls_deployed; null without deployments.",
        Counter.OPERATIONAL,
        Counter.DEPLOYED,
    ),
    _count("policy_exceptions_in_force", "Granted exceptions from policy in force.", Counter.POLICY_EXCEPTIONS),
    _count("actions_tracked", "Actions ever known that had to be done by a time.", Counter.ACTIONS_TRACKED),
    _count(
        "alerts_last_30_days",
        "Alerts first seen in the 30 days before the moment asked about; repeats folded into one are one.",
        Counter.ALERTS_MONTH,
    ),
    _share(
        "alert_precision",
        "Share of true positives among the alerts first seen in the last 365 days that a person judged, duplicates "
        "aside; null while none is judged.",
        Counter.ALERTS_TRUE,
        Counter.ALERTS_JUDGED,
    ),
    _count("policies_in_force", "Policies with an approved version.", Counter.POLICIES, by_team=False),
    _count("risk_appetite_set", "1 once the organisation stated its risk appetite.", Counter.APPETITE, by_team=False),
    _count("board_decisions", "Decisions of the oversight board on record.", Counter.DECISIONS, by_team=False),
)

BY_CATEGORY = "incidents_by_category"

CATEGORIES: tuple[Figure, ...] = tuple(
    _count(
        f"{BY_CATEGORY}.{category.value}",
        f"Incidents of category {category.value} detected in the last 365 days.",
        counter,
    )
    for category, counter in CATEGORY_COUNTERS.items()
)

FIGURES: Mapping[str, Figure] = {figure.name: figure for figure in (*PROGRAM, *BESIDE, *CATEGORIES)}


def figure(name: str) -> Figure:
    """The figure of that name.

    Raises:
        UnknownFigure: none has it; the problem names those that there are.
    """
    try:
        return FIGURES[name]
    except KeyError:
        raise UnknownFigure(f"no figure is called {name!r}", field="name", allowed=sorted(FIGURES)) from None


def values(totals: Totals | None) -> dict[str, Value]:
    """Every figure at one moment; all unknown where the totals are."""
    return {name: None if totals is None else figure.of(totals) for name, figure in FIGURES.items()}


def by_category(totals: Totals) -> dict[IncidentCategory, int]:
    """Incidents detected in the last 365 days by category; a category without any is absent."""
    return {category: totals[counter] for category, counter in CATEGORY_COUNTERS.items() if totals[counter]}


def gaps_of(totals: Totals) -> dict[str, int]:
    """How many assets are in each of the six gap lists."""
    return {
        "no_security_review": totals[Counter.ASSETS] - totals[Counter.REVIEWED],
        "stale_review": totals[Counter.STALE],
        "missing_sbom": totals[Counter.MISSING_SBOM],
        "unclassified_data": totals[Counter.UNCLASSIFIED_DATA],
        "no_owner": totals[Counter.NO_OWNER],
        "public_exposure_high_sensitivity": totals[Counter.PUBLIC_EXPOSURE_HIGH_SENSITIVITY],
    }

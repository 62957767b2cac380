"""Usage judged: an hour that is not usual for its asset, a budget that runs out. And budgets and canaries set.

Judged in the transaction that adds a replica's part to the shared sums, on these sums: so whichever replica adds the
part that goes over a limit raises the alert, and it is raised once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.detection.application import reach
from services.detection.application.alerts import Sighting, raise_alerts
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector
from services.detection.domain.rules import Amount, BudgetDetection, Rule, Status, UsageDetection
from services.detection.domain.trackers import usage
from services.detection.domain.trackers.canaries import marks_of
from services.detection.domain.trackers.usage import Baseline, Budget, Hours, Place, Used
from services.detection.domain.verdict import FLAG_AT, Evidence, score_of
from services.detection.store import assets
from services.detection.store import usage as store
from services.detection.store.usage import Budgets
from shared import audit
from shared.auth import Caller
from shared.contracts.detection import Decision, Direction, Verdict
from shared.database import Tx
from shared.http import check_version

Baselines = dict[tuple[UUID, Amount], tuple[int, Baseline]]
"""What is usual for assets, with the day since the epoch that it was learned on; a replica's own memory of it."""


@dataclass(frozen=True, slots=True)
class _Found:
    rule: Rule
    asset_id: UUID
    actor: str
    shown: str


async def share(
    tx: Tx, parts: Mapping[Place, Used], detector: Detector, baselines: Baselines, now: datetime, folding: timedelta
) -> None:
    """Add a replica's part to the shared sums, and raise alerts for what these then show."""
    totals = await store.add(tx, parts)
    rules = [rule for rule in detector.usage if rule.applies_at(now) and rule.status is not Status.SHADOW]
    hour = usage.hour_of(now.timestamp())
    active = {
        UUID(key): used for (by, key, span, slot), used in totals.items() if (by, span, slot) == ("asset", "hour", hour)
    }
    scopes = _Scopes(tx, rules)
    found = await _unusual(tx, scopes, active, totals, baselines, hour)
    found += await _crossed(tx, scopes, active, now)
    sightings = [_sighting(one, detector, await scopes.owner_of(one.asset_id), now) for one in found]
    if sightings:
        await raise_alerts(tx, sightings, folding)


class _Scopes:
    """Which rules are for which assets; asked before anything is marked, so that a rule for one touches no other."""

    def __init__(self, tx: Tx, rules: Sequence[Rule]) -> None:
        self._tx = tx
        self.rules = rules
        self._assets: dict[UUID, Asset | None] = {}

    async def _asset(self, asset_id: UUID) -> Asset | None:
        if asset_id not in self._assets:
            watched = await assets.watched(self._tx, asset_id)
            self._assets[asset_id] = watched.asset if watched is not None else None
        return self._assets[asset_id]

    async def of(self, asset_id: UUID) -> list[Rule]:
        """The rules that are for this asset; none for one that is not known here."""
        asset = await self._asset(asset_id)
        return [] if asset is None else [rule for rule in self.rules if _in_scope(rule, asset)]

    async def owner_of(self, asset_id: UUID) -> str:
        asset = await self._asset(asset_id)
        return "" if asset is None else asset.owner_team


def _in_scope(rule: Rule, asset: Asset) -> bool:
    scope = rule.scope
    return (not scope.asset_ids or asset.asset_id in scope.asset_ids) and (
        not scope.asset_types or asset.asset_type in scope.asset_types
    )


def _sighting(one: _Found, detector: Detector, owner_team: str, now: datetime) -> Sighting:
    score = round(score_of(one.rule), 2)
    return Sighting(
        finding=detector.finding(one.rule, Evidence("", 0, 0, one.shown), score),
        verdict=Verdict.FLAG if score >= FLAG_AT else Verdict.ALLOW,
        decision=Decision.ALLOW,
        inspection_id=uuid_utils.uuid7(),
        asset_id=one.asset_id,
        owner_team=owner_team,
        reported_by="",
        session_id=None,
        actor=one.actor or None,
        model=None,
        direction=Direction.INPUT,
        digest="",
        at=now,
    )


# -- hours ---------------------------------------------------------------------------------------------------------


async def _unusual(
    tx: Tx,
    scopes: _Scopes,
    active: Mapping[UUID, Used],
    totals: Mapping[Place, Used],
    baselines: Baselines,
    hour: int,
) -> list[_Found]:
    measures = [rule.detection for rule in scopes.rules if isinstance(rule.detection, UsageDetection)]
    # Most hours are below the least that any rule asks for, and cost no query.
    large = [
        asset_id
        for asset_id, used in active.items()
        if any(used.of(one.amount) > one.least for one in measures)
    ]  # fmt: skip
    if not large:
        return []
    await _learn(tx, large, baselines, hour)
    back = max(one.hours for one in measures)
    recent = await store.recent(tx, "asset", [str(one) for one in large], "hour", hour - back + 1)
    found = []
    for asset_id in large:
        hours = {at: used for at, (used, _) in recent[str(asset_id)].items()}
        of_asset = {amount: Hours({at: used.of(amount) for at, used in hours.items()}) for amount in Amount}
        of_actors = await _actors(tx, asset_id, totals, measures, hour)
        usual = {amount: baselines[asset_id, amount][1] for amount in Amount}
        worst = usage.unusual(await scopes.of(asset_id), hour, of_asset, of_actors, usual.__getitem__)
        if worst is not None and await store.alert(tx, asset_id, hour, score_of(worst.rule)):
            # The key of an actor is `asset@team|name`, and names may hold anything.
            actor = worst.actor.partition("|")[2]
            found.append(_Found(worst.rule, asset_id, actor, worst.shown))
    return found


async def _actors(
    tx: Tx, asset_id: UUID, totals: Mapping[Place, Used], measures: Sequence[UsageDetection], hour: int
) -> dict[str, dict[Amount, Hours]]:
    """The asset's actors that were active just now, those above the least that a rule asks for."""
    prefix = f"{asset_id}@"
    by_actor = [one for one in measures if one.by == "actor"]
    large = {
        key: used
        for (by, key, span, slot), used in totals.items()
        if (by, span, slot) == ("actor", "hour", hour)
        and key.startswith(prefix)
        and any(used.of(one.amount) > one.least for one in by_actor)
    }
    if not large:
        return {}
    day = hour // usage.DAY_HOURS
    days = await store.recent(tx, "actor", list(large), "day", day - usage.KEPT_DAYS)
    return {
        key: {
            amount: Hours(
                {hour: used.of(amount)},
                {at: past.of(amount) for at, (past, _) in days[key].items() if at < day},
            )
            for amount in Amount
        }
        for key, used in large.items()
    }


async def _learn(tx: Tx, asset_ids: Sequence[UUID], baselines: Baselines, hour: int) -> None:
    """Learn what is usual, as of the last midnight, where that was not done today."""
    day = hour // usage.DAY_HOURS
    stale = [one for one in asset_ids if baselines.get((one, Amount.TOKENS), (-1, None))[0] != day]
    if not stale:
        return
    until = day * usage.DAY_HOURS
    found = await store.recent(tx, "asset", [str(one) for one in stale], "hour", until - usage.KEPT_HOURS)
    for asset_id in stale:
        past = {at: one for at, one in found[str(asset_id)].items() if at < until}
        left_out = [at for at, (used, alerted) in past.items() if alerted or used.is_tainted]
        for amount in Amount:
            amounts = {at: used.of(amount) for at, (used, _) in past.items()}
            baselines.pop((asset_id, amount), None)
            baselines[asset_id, amount] = day, usage.learn(amounts, until, left_out)


# -- budgets -------------------------------------------------------------------------------------------------------


async def _crossed(tx: Tx, scopes: _Scopes, active: Mapping[UUID, Used], now: datetime) -> list[_Found]:
    """Budgets of which a further share is used up. Of several at once the gravest speaks; all are marked."""
    watched = any(isinstance(rule.detection, BudgetDetection) for rule in scopes.rules)
    set_ = await store.budgets_of(tx, active) if active and watched else {}
    found = []
    for starts, asset_id, budget, used in await _running(tx, set_, now):
        at: dict[float, Rule] = {}
        for rule in await scopes.of(asset_id):
            if isinstance(rule.detection, BudgetDetection) and budget.percent(used) >= rule.detection.percent:
                graver = max((rule, at.get(rule.detection.percent, rule)), key=score_of)
                at[rule.detection.percent] = graver
        # Each share once, whoever watches it; of several rules for one share the gravest speaks.
        crossed = [percent for percent in sorted(at) if await store.cross(tx, asset_id, budget, starts, percent, now)]
        if crossed:
            rule = at[crossed[-1]]
            unit = "US dollars" if budget.amount is Amount.COST_USD else budget.amount.value
            shown = f"{used:,.2f} of {budget.limit:,.2f} {unit} of this {budget.period}: {budget.percent(used):.0f} %"
            found.append(_Found(rule, asset_id, "", shown))
    return found


async def _running(tx: Tx, set_: Mapping[UUID, Budgets], now: datetime) -> list[tuple[int, UUID, Budget, float]]:
    """Each budget with the first hour of its period that runs, and what is used of it."""
    listed = []
    for period in usage.Period:
        starts = period.starts(now.timestamp())
        mine = {at: [one for one in known.budgets if one.period is period] for at, known in set_.items()}
        used = await store.used_since(tx, {at: starts for at, budgets in mine.items() if budgets})
        for asset_id, budgets in mine.items():
            amounts = used.get(asset_id, {})
            listed += [(starts, asset_id, one, amounts.get(one.amount, 0.0)) for one in budgets]
    return listed


async def budgets_with_use(
    tx: Tx, caller: Caller, asset_id: UUID, now: datetime
) -> tuple[int, list[tuple[Budget, float]]]:
    """The version of an asset's budgets, and each with what is used of it in the period that runs.

    Raises:
        NoSuchAsset
    """
    await reach.asset_of(tx, caller, asset_id)
    known = await store.budgets_of(tx, [asset_id])
    running = await _running(tx, known, now)
    return known[asset_id].version if known else 0, [(budget, used) for _, _, budget, used in running]


async def set_budgets(
    tx: Tx, caller: Caller, asset_id: UUID, expected: int | None, budgets: Sequence[Budget], now: datetime
) -> tuple[int, list[tuple[Budget, float]]]:
    """Set an asset's budgets in place of those it had; as `budgets_with_use`.

    A budget whose limit changed can cross its thresholds again in the period that runs.

    Raises:
        NoSuchAsset, PreconditionFailed
    """
    await assets.lock(tx, asset_id)
    owner_team = (await reach.asset_of(tx, caller, asset_id)).asset.owner_team
    known = (await store.budgets_of(tx, [asset_id])).get(asset_id, Budgets(0, ()))
    check_version(known.version, expected)
    fresh = [one for one in {*known.budgets, *budgets} if one not in known.budgets or one not in budgets]
    version = known.version + 1
    await store.put_budgets(tx, asset_id, version, budgets, now, caller.subject, fresh)
    detail = {f"{one.amount}_a_{one.period}": one.limit for one in budgets}
    await audit.record(
        tx, caller, action="asset.budgeted", target=str(asset_id), detail=detail, owner_team=owner_team
    )  # fmt: skip
    return await budgets_with_use(tx, caller, asset_id, now)


# -- canaries ------------------------------------------------------------------------------------------------------


async def canaries_of(tx: Tx, caller: Caller, asset_id: UUID) -> tuple[int, int]:
    """Version and number of an asset's canaries.

    Raises:
        NoSuchAsset
    """
    await reach.asset_of(tx, caller, asset_id)
    known = await store.canaries_of(tx, asset_id)
    return known.version, known.canaries


async def set_canaries(
    tx: Tx, caller: Caller, asset_id: UUID, expected: int | None, canaries: Sequence[str], key: bytes, now: datetime
) -> tuple[int, int]:
    """Register canaries in place of those an asset had; version and number. Only keyed hashes are stored.

    Raises:
        NoSuchAsset, PreconditionFailed
    """
    await assets.lock(tx, asset_id)
    owner_team = (await reach.asset_of(tx, caller, asset_id)).asset.owner_team
    known = await store.canaries_of(tx, asset_id)
    check_version(known.version, expected)
    distinct = list(dict.fromkeys(canaries))
    marks = [mark for one in distinct for mark in marks_of(one, key)]
    await store.put_canaries(tx, asset_id, known.version + 1, len(distinct), marks, now, caller.subject)
    detail = {"canaries": len(distinct)}
    await audit.record(
        tx, caller, action="asset.canaries_set", target=str(asset_id), detail=detail, owner_team=owner_team
    )  # fmt: skip
    return known.version + 1, len(distinct)

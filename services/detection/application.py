"""What detection does that changes something: alerts, containments, rules, how assets are watched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from opentelemetry.trace import SpanKind

from services.detection import pack, store
from services.detection.domain.assets import Mode, NoSuchAsset
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.rules import Example, InvalidRule, Rule, Status, check
from services.detection.domain.similarity import fragments_of
from services.detection.domain.trial import Trial, try_example
from services.detection.domain.verdict import FLAG_AT, Finding
from services.detection.store import Containment, StoredRule
from shared import audit, outbox, telemetry
from shared.auth import Caller, demand_organization
from shared.contracts.detection import (
    AlertDisposed,
    AlertRaised,
    AlertRepeated,
    AlertSnapshot,
    ContainmentApplied,
    ContainmentLifted,
    Decision,
    Direction,
    Disposition,
    RuleChanged,
    Verdict,
)
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.http import check_version

SYSTEM = Caller("service:detection", "service")


class NoSuchAlert(NotFound):
    """No such alert, or none that you may know of."""


class NoSuchRule(NotFound):
    """There is no such rule."""


class NoSuchContainment(NotFound):
    """No such containment, or none that you may know of."""


class RuleExists(Conflict):
    """There is another rule of this id."""


class ContainmentOver(Conflict):
    """This containment is no longer in force."""


# -- alerts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding worth a person, with what it was found in; `traceparent` is the trace of its request."""

    finding: Finding
    verdict: Verdict
    decision: Decision
    inspection_id: UUID
    asset_id: UUID | None
    owner_team: str
    reported_by: str
    session_id: str | None
    actor: str | None
    model: str | None
    direction: Direction
    digest: str
    at: datetime
    traceparent: str | None = None

    @property
    def fold_key(self) -> str:
        """Equal for findings that say the same: one asset and team, rule, category, and session or else actor."""
        whom = f"session {self.session_id}" if self.session_id else f"actor {self.actor}" if self.actor else ""
        # The team too: without an asset, another team's session of the same name is another session.
        parts = (str(self.asset_id), self.owner_team, self.finding.rule_id, self.finding.category.value, whom)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


_ATTACKS = frozenset({IncidentCategory.PROMPT_INJECTION_EXPLOITATION, IncidentCategory.JAILBREAK_BYPASS})


def worth_a_person(findings: Sequence[Finding]) -> list[Finding]:
    """The strongest finding of each category that counts.

    Injection and jailbreak count as one: most attacks are a bit of both, and two incidents for one message are noise. A
    rule for a time, made of the words of one attack, says less of that attack than the rule that found it before: where
    both match, the alert is the one that was raised then.
    """
    strongest: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda one: (one.temporary, -one.score)):
        if not finding.shadow and finding.score >= FLAG_AT:
            group = "attack" if finding.category in _ATTACKS else finding.category.value
            strongest.setdefault(group, finding)
    return list(strongest.values())


async def raise_alerts(tx: Tx, sightings: Sequence[Sighting], folding: timedelta) -> None:
    """Raise an alert for each sighting, or count it in the one it is identical to.

    A repetition is announced when the count passes a power of two: 2, 4, 8, ...
    """
    alike: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        alike.setdefault(sighting.fold_key, []).append(sighting)
    new = {key: _alert(same) for key, same in alike.items()}
    await store.lock_alerts(tx)
    rows = await store.fold(tx, new, min(sighting.at for sighting in sightings) - folding)
    for key, same in alike.items():
        alert = store.snapshot(rows[key])
        before = alert.count - len(same)
        # Announced under the trace of the request that brought it; several requests share this transaction.
        with telemetry.span("raise alert", SpanKind.INTERNAL, parent=same[0].traceparent):
            if alert.alert_id == new[key].alert_id:
                await outbox.add(tx, AlertRaised(version=alert.version, occurred_at=alert.first_seen, alert=alert))
            elif before.bit_length() != alert.count.bit_length():
                await outbox.add(tx, AlertRepeated(version=alert.version, occurred_at=alert.last_seen, alert=alert))


def _alert(same: Sequence[Sighting]) -> AlertSnapshot:
    """A new alert of sightings that fold into one."""
    first = same[0]
    finding = first.finding
    return AlertSnapshot(
        alert_id=uuid_utils.uuid7(),
        version=1,
        title=finding.title,
        kind=finding.kind,
        category=finding.category.value,
        severity=finding.severity,
        verdict=first.verdict,
        decision=first.decision,
        score=finding.score,
        rule_id=finding.rule_id,
        rule_version=finding.rule_version,
        owasp=finding.owasp,
        atlas=finding.atlas,
        asset_id=first.asset_id,
        owner_team=first.owner_team,
        session_id=first.session_id,
        actor=first.actor,
        model=first.model,
        direction=first.direction,
        excerpt=finding.evidence.excerpt,
        digest=first.digest,
        inspection_id=first.inspection_id,
        count=len(same),
        first_seen=min(one.at for one in same),
        last_seen=max(one.at for one in same),
        reported_by=first.reported_by,
    )


async def dispose_alert(
    tx: Tx, caller: Caller, alert_id: UUID, expected: int | None, disposition: Disposition | None, comment: str
) -> Any:
    """Say what an alert was; None opens it again. The row as it is now.

    Raises:
        NoSuchAlert, PreconditionFailed
    """
    await store.lock_alerts(tx)
    row = await store.alert(tx, caller, alert_id, lock=True)
    if row is None:
        raise NoSuchAlert(f"there is no alert {alert_id}")
    check_version(row.version, expected)
    row = await store.dispose(tx, alert_id, disposition.value if disposition else None, caller.subject, comment)
    alert = store.snapshot(row)
    now = datetime.now(UTC)
    await outbox.add(tx, AlertDisposed(version=alert.version, occurred_at=now, alert=alert, actor=caller.subject))
    detail = {"disposition": disposition and disposition.value, "comment": comment}
    await audit.record(
        tx, caller, action="alert.disposed", target=str(alert_id), detail=detail, owner_team=alert.owner_team
    )
    return row


# -- containments ------------------------------------------------------------------------------------------------


async def contain(
    tx: Tx,
    caller: Caller,
    target_kind: str,
    target: str,
    team: str | None,
    reason: str,
    expires_at: datetime | None,
    now: datetime,
) -> tuple[Containment, bool]:
    """Block a session, an actor or an asset; the containment, and whether it is new.

    A target that is contained already for the same team stays so, until the later of both times.

    Args:
        team: whose traffic a session or actor is blocked in; None everybody's, and the caller's where it has one team.

    Raises:
        NoSuchAsset: the asset is not the caller's to know of.
        Forbidden: a caller bound to teams names none of them.
        Invalid: a caller bound to several teams names no team.
    """
    if target_kind == "asset":
        watched = await store.watched(tx, UUID(target))
        if watched is None or not caller.sees(watched.asset.owner_team):
            raise NoSuchAsset(f"there is no asset {target}")
        owner_team = watched.asset.owner_team
    else:
        team = _team_of_block(caller, team)
        owner_team = team or ""
    new = Containment(
        uuid_utils.uuid7(), 1, target_kind, target, reason, owner_team, now, caller.subject, expires_at, team=team
    )  # fmt: skip
    added = await store.add_containment(tx, new)
    if added is None:
        standing = await store.containment_of(tx, target_kind, target, team)
        if standing is None:
            # It was lifted between the two statements.
            return await contain(tx, caller, target_kind, target, team, reason, expires_at, now)
        if standing.expires_at is None or (expires_at is not None and expires_at <= standing.expires_at):
            return standing, False
        added = replace(standing, version=standing.version + 1, expires_at=expires_at)
        await store.save_containment(tx, added)
    await store.move(tx, "containments")
    await outbox.add(tx, ContainmentApplied(**_of_containment(added, caller, now)))
    detail = {
        "target_kind": target_kind, "target": target, "team": team, "reason": reason, "expires_at": str(expires_at)
    }  # fmt: skip
    await audit.record(
        tx, caller, action="containment.applied", target=str(added.containment_id), detail=detail, owner_team=owner_team
    )
    return added, added.version == 1


def _team_of_block(caller: Caller, team: str | None) -> str | None:
    if caller.teams is None:
        return team
    if team is None and len(caller.teams) > 1:
        raise Invalid("say in which of your teams' traffic", field="/team")
    mine = next(iter(caller.teams), None) if team is None else team
    if mine is None or not caller.sees(mine):
        raise Forbidden("a caller who is bound to teams blocks sessions and actors in the traffic of these only")
    return mine


def _of_containment(one: Containment, caller: Caller, now: datetime) -> dict[str, Any]:
    return {
        "version": one.version,
        "occurred_at": now,
        "containment_id": one.containment_id,
        "target_kind": one.target_kind,
        "target": one.target,
        "reason": one.reason,
        "actor": caller.subject,
        "owner_team": one.owner_team,
        "expires_at": one.expires_at,
        "team": one.team,
    }


async def lift(tx: Tx, caller: Caller, containment_id: UUID, now: datetime) -> Containment:
    """End a containment.

    Raises:
        NoSuchContainment, ContainmentOver
    """
    one = await store.containment(tx, containment_id, lock=True)
    if one is None or not caller.sees(one.owner_team):
        raise NoSuchContainment(f"there is no containment {containment_id}")
    if one.lifted_at is not None:
        raise ContainmentOver(f"it was lifted at {one.lifted_at.isoformat()}")
    lifted = await _lift(tx, caller, one, now)
    await audit.record(tx, caller, action="containment.lifted", target=str(containment_id), owner_team=one.owner_team)
    return lifted


async def _lift(tx: Tx, caller: Caller, one: Containment, now: datetime) -> Containment:
    lifted = replace(one, version=one.version + 1, lifted_at=now, lifted_by=caller.subject)
    await store.save_containment(tx, lifted)
    await store.move(tx, "containments")
    await outbox.add(tx, ContainmentLifted(**_of_containment(lifted, caller, now)))
    return lifted


async def expire(tx: Tx, now: datetime) -> None:
    """End containments and rules whose time is over."""
    for one in await store.expired_containments(tx, now):
        await _lift(tx, SYSTEM, one, now)
    for stored in await store.expired_rules(tx, now):
        await _save_rule(
            tx, SYSTEM, stored, stored.rule.model_copy(update={"status": Status.DEPRECATED}), "expired", now
        )


# -- rules -------------------------------------------------------------------------------------------------------


def tried(rule: Rule) -> Detector:
    """A detector of this one rule, for trying it; one that is out of force is tried as though it ran.

    Raises:
        InvalidRule: a pattern cannot run; names the field.
    """
    check(rule)
    status = Status.TEST if rule.status is Status.DEPRECATED else rule.status
    running = rule.model_copy(update={"status": status, "expires_at": None})
    return Detector([Loaded(running, 1)], pack.compiled(), frozenset())


def check_examples(rule: Rule) -> None:
    """Refuse a rule that cannot run, or does not do on its own examples what they say.

    Takes CPU time, up to a second or two where there are many examples: call it off the event loop, before any
    transaction.

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
    """What a rule makes of each example; nothing is kept. Off the event loop, as `check_examples`.

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


async def create_rule(tx: Tx, caller: Caller, rule: Rule, now: datetime) -> tuple[StoredRule, bool]:
    """Add a rule that passed `check_examples`; it, and whether it is new. The same rule again changes nothing.

    Raises:
        RuleExists: another rule has its id.
        InvalidRule: it has expired already.
        Forbidden, NoSuchAsset: it reaches further than what the caller's teams own.
    """
    await _demand_reach(tx, caller, rule)
    stored = StoredRule(rule, 1, "custom", "", now, caller.subject)
    if not await store.add_rule(tx, stored):
        standing = await store.rule(tx, SYSTEM, rule.id)
        if standing is not None and standing.rule == rule:
            return standing, False
        raise RuleExists(f"there is another rule {rule.id}; change it with PUT")
    _refuse_expired(rule, now)
    await _announce_rule(tx, caller, stored, "created", now)
    return stored, True


async def change_rule(
    tx: Tx, caller: Caller, rule_id: str, rule: Rule, expected: int | None, now: datetime
) -> StoredRule:
    """Replace a rule by one that passed `check_examples`.

    Raises:
        NoSuchRule, PreconditionFailed, InvalidRule
        Forbidden, NoSuchAsset: what is there or what is to be reaches further than what the caller's teams own.
    """
    if rule.id != rule_id:
        raise InvalidRule(f"the rule's id is not {rule_id}", field="/id")
    standing = await _standing(tx, caller, rule_id, expected)
    await _demand_reach(tx, caller, rule)
    _refuse_expired(rule, now)
    return await _save_rule(tx, caller, standing, rule, "changed", now)


async def disable_rule(tx: Tx, caller: Caller, rule_id: str, expected: int | None, now: datetime) -> StoredRule:
    """Take a rule out of force; it stays on record and can be put back.

    Raises:
        NoSuchRule, PreconditionFailed
        Forbidden: it reaches further than what the caller's teams own.
    """
    standing = await _standing(tx, caller, rule_id, expected)
    disabled = standing.rule.model_copy(update={"status": Status.DEPRECATED})
    return await _save_rule(tx, caller, standing, disabled, "disabled", now)


def _refuse_expired(rule: Rule, now: datetime) -> None:
    if rule.status is not Status.DEPRECATED and not rule.applies_at(now):
        raise InvalidRule("this is in the past: the rule would never run", field="/expires_at")


async def _standing(tx: Tx, caller: Caller, rule_id: str, expected: int | None) -> StoredRule:
    """The rule that is to be changed, locked, in the version that the caller means."""
    standing = await store.rule(tx, caller, rule_id, lock=True)
    if standing is None:
        raise NoSuchRule(f"there is no rule {rule_id}")
    await _demand_reach(tx, caller, standing.rule)
    check_version(standing.version, expected)
    return standing


async def _demand_reach(tx: Tx, caller: Caller, rule: Rule) -> None:
    """Refuse a rule for more than the caller's teams own: it decides over the traffic that it is for."""
    if caller.organization_wide:
        return
    if not rule.scope.asset_ids:
        demand_organization(caller, "a detection rule without assets in its scope")
    hidden = await store.hidden_assets(tx, caller, rule.scope.asset_ids)
    if hidden:
        raise NoSuchAsset(f"there is no asset {min(hidden)}")


async def _save_rule(
    tx: Tx, caller: Caller, standing: StoredRule, rule: Rule, change: str, now: datetime
) -> StoredRule:
    stored = replace(standing, rule=rule, version=standing.version + 1, updated_at=now, updated_by=caller.subject)
    await store.put_rule(tx, stored)
    await _announce_rule(tx, caller, stored, change, now)
    return stored


async def _announce_rule(tx: Tx, caller: Caller, stored: StoredRule, change: str, now: datetime) -> None:
    await store.move(tx, "rules")
    enabled = stored.rule.status is not Status.DEPRECATED
    changed = RuleChanged(
        version=stored.version, occurred_at=now, rule_id=stored.rule.id, title=stored.rule.title, enabled=enabled,
        change=change, actor=caller.subject,
    )  # fmt: skip
    await outbox.add(tx, changed)
    await audit.record(tx, caller, action=f"rule.{change}", target=stored.rule.id, detail={"version": stored.version})


async def take_over_pack(tx: Tx, now: datetime) -> int:
    """Bring the shipped rules into the database: new ones are added, changed files replace what nobody edited here,
    and what is shipped no longer is taken out of force.

    Returns how many were written.
    """
    standing = await store.digests(tx)
    written = 0
    for rule_id, shipped in pack.shipped().items():
        version, origin, digest = standing.get(rule_id, (0, "builtin", ""))
        if digest == shipped.digest or origin != "builtin":
            continue
        if version > 1:
            edited = await store.rule(tx, SYSTEM, rule_id)
            # Somebody changed or disabled it here; a new release does not overrule them.
            if edited is not None and edited.updated_by != SYSTEM.subject:
                continue
        await store.put_rule(tx, StoredRule(shipped.rule, version + 1, "builtin", shipped.digest, now, SYSTEM.subject))
        written += 1
    for rule_id in standing.keys() - pack.shipped().keys():
        gone = await store.rule(tx, SYSTEM, rule_id) if standing[rule_id][1] == "builtin" else None
        if gone is not None and gone.updated_by == SYSTEM.subject and gone.rule.status is not Status.DEPRECATED:
            disabled = gone.rule.model_copy(update={"status": Status.DEPRECATED})
            await store.put_rule(tx, replace(gone, rule=disabled, version=gone.version + 1, updated_at=now))
            written += 1
    if written:
        await store.move(tx, "rules")
    return written


# -- assets ------------------------------------------------------------------------------------------------------


async def watch(
    tx: Tx,
    caller: Caller,
    asset_id: UUID,
    expected: int | None,
    mode: Mode,
    prompts: Sequence[str] | None,
    key: bytes,
    now: datetime,
) -> tuple[int, Mode, int]:
    """Set how an asset is watched; its version, mode and number of prompt fragments.

    Args:
        prompts: texts that must not leak, replacing those registered; None keeps them. Only keyed hashes are stored.

    Raises:
        NoSuchAsset, PreconditionFailed
    """
    # Two changes of one version must not both find it: the asset's row is what they queue for.
    await store.lock_asset(tx, asset_id)
    watched = await store.watched(tx, asset_id)
    if watched is None or not caller.sees(watched.asset.owner_team):
        raise NoSuchAsset(f"there is no asset {asset_id}")
    check_version(watched.version, expected)
    fragments = watched.fragments
    if prompts is not None:
        fragments = tuple(fragment for text in prompts for fragment in fragments_of(text, key))
    version = watched.version + 1
    await store.put_watch(tx, asset_id, version, mode, fragments, now, caller.subject)
    await audit.record(
        tx,
        caller,
        action="asset.watched",
        target=str(asset_id),
        detail={"mode": mode.value, "fragments": len(fragments)},
        owner_team=watched.asset.owner_team,
    )
    return version, mode, len(fragments)

"""Rules: tried, written, and taken over from a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from services.detection import pack
from services.detection.application import SYSTEM
from services.detection.domain.assets import NoSuchAsset
from services.detection.domain.detector import Detector, Loaded
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
from services.detection.store import assets, generation
from services.detection.store import rules as store
from services.detection.store.rules import StoredRule
from shared import audit, outbox, telemetry
from shared.auth import Caller, demand_organization
from shared.contracts.detection import RuleChanged
from shared.database import Tx
from shared.errors import Conflict, NotFound
from shared.http import check_version


class NoSuchRule(NotFound):
    """There is no such rule."""


class RuleExists(Conflict):
    """There is another rule of this id."""


def tried(rule: Rule) -> Detector:
    """A detector of this one rule, for trying it; one that is out of force is tried as though it ran.

    A rule over a tracker's signal needs what signals are made of: the shipped patterns run beside it.

    Raises:
        InvalidRule: a pattern cannot run; names the field.
    """
    check(rule)
    status = Status.TEST if rule.status is Status.DEPRECATED else rule.status
    running = rule.model_copy(update={"status": status, "expires_at": None})
    beside: list[Loaded] = []
    if isinstance(rule.detection, TrackerDetection | SequenceDetection):
        shipped = [one.rule for one in pack.shipped().values() if one.rule.id != rule.id]
        beside = [Loaded(one, 1) for one in shipped if isinstance(one.detection, RegexDetection | ClassifierDetection)]
    return Detector(
        [Loaded(running, 1), *beside], pack.compiled(), frozenset(one.rule.id for one in beside), pack.classifier()
    )


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


async def create(tx: Tx, caller: Caller, rule: Rule, now: datetime) -> tuple[StoredRule, bool]:
    """Add a rule that passed `check_examples`; it, and whether it is new. The same rule again changes nothing.

    Raises:
        RuleExists: another rule has its id.
        InvalidRule: it has expired already.
        Forbidden, NoSuchAsset: it reaches further than what the caller's teams own.
    """
    await _demand_reach(tx, caller, rule)
    stored = StoredRule(rule, 1, "custom", "", now, caller.subject)
    if not await store.add(tx, stored):
        standing = await store.get(tx, SYSTEM, rule.id)
        if standing is not None and standing.rule == rule:
            return standing, False
        raise RuleExists(f"there is another rule {rule.id}; change it with PUT")
    _refuse_expired(rule, now)
    await _announce(tx, caller, stored, "created", now)
    return stored, True


async def change(tx: Tx, caller: Caller, rule_id: str, rule: Rule, expected: int | None, now: datetime) -> StoredRule:
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
    return await _save(tx, caller, standing, rule, "changed", now)


async def disable(tx: Tx, caller: Caller, rule_id: str, expected: int | None, now: datetime) -> StoredRule:
    """Take a rule out of force; it stays on record and can be put back.

    Raises:
        NoSuchRule, PreconditionFailed
        Forbidden: it reaches further than what the caller's teams own.
    """
    standing = await _standing(tx, caller, rule_id, expected)
    disabled = standing.rule.model_copy(update={"status": Status.DEPRECATED})
    return await _save(tx, caller, standing, disabled, "disabled", now)


def _refuse_expired(rule: Rule, now: datetime) -> None:
    if rule.status is not Status.DEPRECATED and not rule.applies_at(now):
        raise InvalidRule("this is in the past: the rule would never run", field="/expires_at")


async def _standing(tx: Tx, caller: Caller, rule_id: str, expected: int | None) -> StoredRule:
    """The rule that is to be changed, locked, in the version that the caller means."""
    standing = await store.get(tx, caller, rule_id, lock=True)
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
    hidden = await assets.hidden(tx, caller, rule.scope.asset_ids)
    if hidden:
        raise NoSuchAsset(f"there is no asset {min(hidden)}")


async def _save(tx: Tx, caller: Caller, standing: StoredRule, rule: Rule, change: str, now: datetime) -> StoredRule:
    stored = replace(standing, rule=rule, version=standing.version + 1, updated_at=now, updated_by=caller.subject)
    await store.put(tx, stored)
    await _announce(tx, caller, stored, change, now)
    return stored


async def _announce(tx: Tx, caller: Caller, stored: StoredRule, change: str, now: datetime) -> None:
    await generation.move(tx, "rules")
    enabled = stored.rule.status is not Status.DEPRECATED
    changed = RuleChanged(
        version=stored.version, occurred_at=now, rule_id=stored.rule.id, title=stored.rule.title, enabled=enabled,
        change=change, actor=caller.subject,
    )  # fmt: skip
    await outbox.add(tx, changed)
    await audit.record(tx, caller, action=f"rule.{change}", target=stored.rule.id, detail={"version": stored.version})


async def take_over_pack(tx: Tx, now: datetime) -> int:
    """Bring the shipped rules into the database: new ones are added, changed files replace what nobody edited here,
    and what is shipped no longer is taken out of force until a start that ships it again.

    Returns how many were written. What stood before is announced as other changes are; the pack's first arrival is not.
    """
    standing = await store.digests(tx)
    written = 0
    announced: list[tuple[str, str]] = []
    for rule_id, shipped in pack.shipped().items():
        version, origin, digest, updated_by = standing.get(rule_id, (0, "builtin", "", SYSTEM.subject))
        # What somebody changed or disabled here, a new release does not overrule.
        if digest == shipped.digest or origin != "builtin" or updated_by != SYSTEM.subject:
            continue
        stored = StoredRule(shipped.rule, version + 1, "builtin", shipped.digest, now, SYSTEM.subject)
        await store.put(tx, stored)
        written += 1
        if version:
            await _announce(tx, SYSTEM, stored, "changed", now)
            announced.append((rule_id, "changed"))
    for rule_id in standing.keys() - pack.shipped().keys():
        _, origin, _, updated_by = standing[rule_id]
        if origin != "builtin" or updated_by != SYSTEM.subject:
            continue
        try:
            gone = await store.get(tx, SYSTEM, rule_id, lock=True)
        except ValidationError:
            # A later release wrote it, and this start is of an earlier one: it does not run here in any case.
            continue
        if gone is not None and gone.updated_by == SYSTEM.subject and gone.rule.status is not Status.DEPRECATED:
            disabled = gone.rule.model_copy(update={"status": Status.DEPRECATED})
            # Without its digest, so that the next start that ships it puts it back.
            await _save(tx, SYSTEM, replace(gone, digest=""), disabled, "disabled", now)
            written += 1
            announced.append((rule_id, "disabled"))
    if announced:
        telemetry.logger().warning("shipped_rules_changed", rules=announced)
    if written:
        await generation.move(tx, "rules")
    return written


async def expire(tx: Tx, now: datetime) -> None:
    """Take rules out of force whose time is over."""
    for stored in await store.expired(tx, now):
        disabled = stored.rule.model_copy(update={"status": Status.DEPRECATED})
        await _save(tx, SYSTEM, stored, disabled, "expired", now)

"""Rules: tried, written, and taken over from a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.detection import pack
from services.detection.application import SYSTEM, promotion, trials
from services.detection.application.promotion import Limits, NotQuiet
from services.detection.application.trials import TextRecord
from services.detection.domain.assets import NoSuchAsset
from services.detection.domain.rules import InvalidRule, Rule, Status, UnreadableRule
from services.detection.store import assets, cases, generation
from services.detection.store import rules as store
from services.detection.store.cases import Case
from services.detection.store.rules import StoredRule
from shared import audit, outbox, telemetry
from shared.auth import Caller, demand_organization
from shared.contracts.detection import RuleChanged
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound
from shared.http import check_version

RESERVED = frozenset({"performance", "proposals", "test"})
"""Names that stand for something else below /v1/rules."""


class NoSuchRule(NotFound):
    """There is no such rule."""


class RuleExists(Conflict):
    """There is another rule of this id."""


class NotInShadow(Conflict):
    """Only a rule in shadow can be promoted."""


class CasesMissed(Conflict):
    """The rule does not match attacks that it was made for."""


@dataclass(frozen=True, slots=True)
class Tested:
    """A rule that passed `check_examples`, with what else trying it showed.

    Attributes:
        texts: its record on the benign regression texts; None where it is not to decide.
        missed: the cases it was made for and does not match.
    """

    rule: Rule
    texts: TextRecord | None = None
    missed: tuple[UUID, ...] = ()


def test(rule: Rule, cases: Sequence[Case], limits: Limits, now: datetime) -> Tested:
    """Try a rule on all that it has to stand. Takes CPU time: call it off the event loop.

    A rule over a tracker's signal needs what signals are made of: the shipped patterns run beside it.

    Raises:
        InvalidRule: it cannot run, or does not do on its own examples what they say.
    """
    trials.check_examples(rule)
    judged = promotion.decides(rule) and not promotion.is_emergency(rule, limits, now)
    return Tested(rule, trials.on_benign_texts(rule) if judged else None, tuple(trials.missed(rule, cases)))


async def create(tx: Tx, caller: Caller, tested: Tested, limits: Limits, now: datetime) -> tuple[StoredRule, bool]:
    """Add a rule; it, and whether it is new. The same rule again changes nothing.

    Raises:
        RuleExists: another rule has its id.
        InvalidRule: it has expired already.
        NotQuiet: it is to decide for good, and fires on benign texts.
        Forbidden, NoSuchAsset: it reaches further than what the caller's teams own.
    """
    rule = tested.rule
    await demand_reach(tx, caller, rule)
    if rule.id in RESERVED:
        raise InvalidRule("this name is taken by a path of the API", field="/id")
    stored = StoredRule(rule, 1, "custom", "", now, caller.subject, on_trial=rule.status is Status.SHADOW)
    if not await store.add(tx, stored):
        standing = await store.get(tx, SYSTEM, rule.id)
        if standing is not None and standing.rule == rule:
            return standing, False
        raise RuleExists(f"there is another rule {rule.id}; change it with PUT")
    _refuse_expired(rule, now)
    if tested.texts is not None:
        promotion.demand_quiet_on_texts(tested.texts, limits.text_rate)
    await announce(tx, caller, stored, "created", now)
    return stored, True


async def change(
    tx: Tx,
    caller: Caller,
    rule_id: str,
    tested: Tested,
    expected: int | None,
    limits: Limits,
    now: datetime,
    force_reason: str | None = None,
) -> StoredRule:
    """Replace a rule.

    One that is to decide goes through the same gate as by `promote`: on the benign texts when it fires differently than
    before or did not decide, and on its live record when it was in shadow.

    Args:
        force_reason: why cases it was made for need not be matched any more.

    Raises:
        NoSuchRule, PreconditionFailed, InvalidRule
        NotQuiet: its record does not allow it to decide.
        CasesMissed: it no longer matches attacks that it was made for, and no reason is given.
        Forbidden, NoSuchAsset: what is there or what is to be reaches further than what the caller's teams own.
    """
    rule = tested.rule
    if rule.id != rule_id:
        raise InvalidRule(f"the rule's id is not {rule_id}", field="/id")
    standing = await _standing(tx, caller, rule_id, expected)
    await demand_reach(tx, caller, rule)
    _refuse_expired(rule, now)
    if tested.missed:
        if force_reason is None:
            listed = ", ".join(map(str, tested.missed))
            raise CasesMissed(
                f"the rule no longer matches attacks that it was made for: {listed}. Give force_reason to release them",
                cases=[str(one) for one in tested.missed],
            )
        await cases.release(tx, tested.missed, caller.subject, force_reason, now)
    alike = promotion.fires_alike(standing.rule, rule)
    on_trial = standing.on_trial or rule.status is Status.SHADOW
    if tested.texts is not None:
        decided = promotion.decides(standing.rule) and standing.rule.expires_at is None
        if not (alike and decided):
            promotion.demand_quiet_on_texts(tested.texts, limits.text_rate)
        if standing.on_trial:
            if not alike:
                raise NotQuiet("it fires differently than what is in shadow: change it there, and promote it later")
            await promotion.demand_quiet_live(tx, standing, limits.live_rate, limits, now)
        on_trial = False
    turned = promotion.decides(standing.rule) is not promotion.decides(rule)
    version = standing.version + 1
    stored = replace(
        standing,
        rule=rule,
        version=version,
        updated_at=now,
        updated_by=caller.subject,
        on_trial=on_trial,
        judged_from=standing.judged_from if alike and not turned else version,
        stated_rate=None if turned else standing.stated_rate,
        status_reason=None if standing.rule.status is not rule.status else standing.status_reason,
    )
    await store.put(tx, stored)
    released = {"released_cases": [str(one) for one in tested.missed]} if tested.missed else {}
    await announce(tx, caller, stored, "changed", now, reason=force_reason or "", detail=released)
    return stored


async def promote(
    tx: Tx, caller: Caller, rule_id: str, tested: Tested, status: Status | None, rate: float | None, reason: str,
    limits: Limits, now: datetime,
) -> StoredRule:  # fmt: skip
    """Let a rule decide that was in shadow.

    Args:
        rate: greatest false-positive rate, stricter than the installation's; the rule is demoted by it later.

    Raises:
        NoSuchRule
        NotInShadow: it decides already, is out of force, or was changed while it was tested.
        NotQuiet: its record does not allow it to decide; says which figure failed.
        CasesMissed: it does not match attacks that it was made for.
        Invalid: the rate is above the installation's.
        Forbidden, NoSuchAsset: it reaches further than what the caller's teams own.
    """
    standing = await _standing(tx, caller, rule_id, None)
    if standing.rule.status is not Status.SHADOW or standing.rule != tested.rule:
        raise NotInShadow(f"the rule is {standing.rule.status.value}, or was changed a moment ago")
    _refuse_expired(standing.rule, now)
    if rate is not None and rate > limits.live_rate:
        raise Invalid(f"at most {limits.live_rate} is allowed here", field="/max_false_positive_rate")
    if tested.missed:
        raise CasesMissed(
            f"the rule does not match attacks that it was made for: {', '.join(map(str, tested.missed))}",
            cases=[str(one) for one in tested.missed],
        )
    assert tested.texts is not None
    promotion.demand_quiet_on_texts(tested.texts, limits.text_rate)
    live = await promotion.demand_quiet_live(tx, standing, rate or limits.live_rate, limits, now)
    figures = {"benign_texts": tested.texts.figures(), "live": live.figures()}
    stored = promotion.promoted(standing, status, rate, reason, figures, caller.subject, now)
    await store.put(tx, stored)
    await announce(tx, caller, stored, "promoted", now, reason=reason, detail=figures)
    return stored


async def demote_if_noisy(tx: Tx, rule_id: str, limits: Limits, now: datetime) -> StoredRule | None:
    """Put a rule in shadow whose judged alerts show too many false ones; it as it is then, None when it stays."""
    try:
        stored = await promotion.noisy(tx, rule_id, limits, now)
    except UnreadableRule:
        # A later release wrote it: its replicas judge it.
        return None
    if stored is not None:
        assert stored.status_reason is not None
        await store.put(tx, stored)
        reason, figures = stored.status_reason["reason"], stored.status_reason["figures"]
        await announce(tx, SYSTEM, stored, "demoted", now, reason=reason, detail=figures)
        telemetry.logger().warning("rule_demoted", rule=rule_id, reason=reason)
    return stored


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
    await demand_reach(tx, caller, standing.rule)
    check_version(standing.version, expected)
    return standing


async def demand_reach(tx: Tx, caller: Caller, rule: Rule) -> None:
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
    await announce(tx, caller, stored, change, now)
    return stored


async def announce(
    tx: Tx, caller: Caller, stored: StoredRule, change: str, now: datetime, *, reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Publish and write down what happened to a rule that was just written."""
    enabled = stored.rule.status is not Status.DEPRECATED
    changed = RuleChanged(
        version=stored.version, occurred_at=now, rule_id=stored.rule.id, title=stored.rule.title, enabled=enabled,
        change=change, actor=caller.subject, reason=reason,
    )  # fmt: skip
    await outbox.add(tx, changed)
    detail = {"version": stored.version, "reason": reason, **(detail or {})}
    await audit.record(tx, caller, action=f"rule.{change}", target=stored.rule.id, detail=detail)


async def take_over_pack(tx: Tx, now: datetime, *, older: bool = False) -> int:
    """Bring the shipped rules into the database: new ones are added, changed files replace what nobody edited here,
    and what is shipped no longer is taken out of force until a start that ships it again.

    A pack of a lower revision than the one that was brought in last changes nothing: in a rolling deployment a replica
    of the release before may start again after the first of the new one.

    Args:
        older: bring it in all the same, as somebody wants who goes back to a release.

    Returns how many were written. What stood before is announced as other changes are; the pack's first arrival is not.
    """
    newest, mine = await generation.pack_revision(tx), pack.revision()
    if mine < newest and not older:
        telemetry.logger().warning("older_pack_left_out", revision=mine, in_force=newest)
        return 0
    if mine != newest:
        await generation.set_pack_revision(tx, mine)
    standing = await store.digests(tx)
    written: list[StoredRule] = []
    announced: list[tuple[str, str]] = []
    for rule_id, shipped in pack.shipped().items():
        version, origin, digest, updated_by, on_trial = standing.get(rule_id, (0, "builtin", "", SYSTEM.subject, False))
        # What somebody changed or disabled here, a new release does not overrule.
        if digest == shipped.digest or origin != "builtin" or updated_by != SYSTEM.subject:
            continue
        stored = StoredRule(
            shipped.rule, version + 1, "builtin", shipped.digest, now, SYSTEM.subject, judged_from=version + 1
        )
        if on_trial and (demoted := await _demoted(tx, rule_id)) is not None:
            # What lost its right to decide comes with the release's words, and earns it anew.
            in_shadow = shipped.rule.model_copy(update={"status": Status.SHADOW})
            stored = replace(stored, rule=in_shadow, on_trial=True, status_reason=demoted.status_reason)
        written.append(stored)
        if version:
            announced.append((rule_id, "changed"))
    await store.put(tx, *written)
    for stored in written:
        if stored.version > 1:
            await announce(tx, SYSTEM, stored, "changed", now)
    for rule_id in standing.keys() - pack.shipped().keys():
        _, origin, _, updated_by, _ = standing[rule_id]
        if origin != "builtin" or updated_by != SYSTEM.subject:
            continue
        try:
            gone = await store.get(tx, SYSTEM, rule_id, lock=True)
        except UnreadableRule:
            # A later release wrote it, and this start is of an earlier one: it does not run here in any case.
            continue
        if gone is not None and gone.updated_by == SYSTEM.subject and gone.rule.status is not Status.DEPRECATED:
            disabled = gone.rule.model_copy(update={"status": Status.DEPRECATED})
            # Without its digest, so that the next start that ships it puts it back.
            written.append(await _save(tx, SYSTEM, replace(gone, digest=""), disabled, "disabled", now))
            announced.append((rule_id, "disabled"))
    if announced:
        telemetry.logger().warning("shipped_rules_changed", rules=announced)
    return len(written)


async def _demoted(tx: Tx, rule_id: str) -> StoredRule | None:
    """The rule as it stands; None when a later release wrote what this one cannot read."""
    try:
        return await store.get(tx, SYSTEM, rule_id, lock=True)
    except UnreadableRule:
        return None


async def expire(tx: Tx, now: datetime) -> None:
    """Take rules out of force whose time is over."""
    for stored in await store.expired(tx, now):
        disabled = stored.rule.model_copy(update={"status": Status.DEPRECATED})
        await _save(tx, SYSTEM, stored, disabled, "expired", now)

"""Detection without a database: what a replica does with traffic, on the clock of that traffic."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from services.detection import pack
from services.detection.application.alerts import worth_a_person
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.following import follow
from services.detection.domain.rules import Amount, Metric
from services.detection.domain.sessions import Measured, Sessions
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.trackers import Session, usage
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.verdict import Finding
from services.detection.tests.talks import Turn
from services.detection.tests.traffic import TrafficOf, Used
from shared.contracts.detection import Direction
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

FOLDING_SECONDS = 3_600


@lru_cache(maxsize=1)
def the_detector() -> Detector:
    """All that ships, put together once for all tests: it keeps nothing of what it reads."""
    loaded = [Loaded(one.rule, 1) for one in pack.shipped().values()]
    return Detector(loaded, pack.compiled(), frozenset(pack.shipped()), pack.classifier())


@dataclass(slots=True)
class Watch:
    """Attributes:
    alerts: (time, rule, whom) of each alert, identical ones within an hour of the last being one.
    hourly: amounts by asset or actor, amount and hour.
    """

    detector: Detector
    alerts: list[tuple[float, str, str]] = field(default_factory=list)
    interactions: int = 0
    prompts: PromptIndex | None = None
    canaries: CanaryIndex | None = None
    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    _sessions: dict[str, Session] = field(default_factory=dict)
    _rates: Sessions = field(default_factory=Sessions)
    _profiles: dict[UUID, Profile] = field(default_factory=lambda: defaultdict(Profile))
    _actors: dict[tuple[UUID, str], Probing] = field(default_factory=lambda: defaultdict(Probing))
    _hours: dict[tuple[str, Amount], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    _days: dict[tuple[str, Amount], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    _alerted: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _baselines: dict[tuple[str, Amount], tuple[int, usage.Baseline]] = field(default_factory=dict)

    def rules(self, since: float = 0.0) -> Counter[str]:
        return Counter(rule for at, rule, _ in self.alerts if at >= since)

    def follow(self, turns: Iterable[Turn], at: float) -> list[Finding]:
        """Put a session to everything, from a time on; all its findings."""
        found: list[Finding] = []
        for seconds, interaction in turns:
            at += seconds
            self.interactions += 1
            now = datetime.fromtimestamp(at, UTC)
            asset = Asset(
                interaction.asset_id or UUID(int=0),
                1,
                "asset",
                "team",
                AssetType.API_ENDPOINT,
                DataClassification.CONFIDENTIAL,
                Lifecycle.ACTIVE,
            )
            subjects = interaction.subjects()
            rates = self._rates.count(subjects, interaction.amounts(), at)
            outputs = [one for one in interaction.segments if one.direction is Direction.OUTPUT]
            figures, samples = self._rates.compare_output(subjects[0], outputs[-1].text) if outputs else ({}, 0)
            inspected = self.detector.inspect(
                interaction, now=now, asset=asset, measured=Measured(figures, rates, samples)
            )
            actor = self._actors[asset.asset_id, interaction.actor or ""]
            for segment in interaction.segments:
                if segment.direction is Direction.INPUT:
                    actor.ask(segment.text, at, interaction.model)
                elif segment.direction is Direction.OUTPUT:
                    actor.answer(len(segment.text), at)
            profile = self._profiles[asset.asset_id]
            session = self._sessions.setdefault(interaction.session_id or "", Session())
            inspected = follow(
                self.detector, interaction, inspected, session,
                now=now, asset=asset, prompts=self.prompts, canaries=self.canaries, profile=profile, learning=profile,
                probing=actor,
            )  # fmt: skip
            found += inspected.findings
            for finding in worth_a_person(inspected.findings):
                self._raise(at, finding.rule_id, f"{interaction.asset_id}/{interaction.session_id}")
        return found

    def forget_sessions(self) -> None:
        self._sessions.clear()

    def hour(self, traffic: TrafficOf, hour: int, used: dict[str, Used]) -> None:
        """An hour of an asset has passed."""
        at = hour * 3_600.0
        asset = traffic.name
        sums = dict.fromkeys(Amount, 0.0)
        of_actors: dict[str, dict[Amount, usage.Hours]] = {}
        for actor, one in used.items():
            mine = of_actors[actor] = {}
            for amount, value in amounts_of(one):
                sums[amount] += value
                days = self._days[asset + actor, amount]
                before = {day: total for day, total in days.items() if hour // 24 - usage.KEPT_DAYS < day < hour // 24}
                mine[amount] = usage.Hours({hour: value}, before)
                days[hour // 24] = days.get(hour // 24, 0.0) + value
            self._check_rates(asset + actor, one, at)
        for amount in Amount:
            self._hours[asset, amount][hour] = sums[amount]
        of_asset = {amount: usage.Hours(self._hours[asset, amount]) for amount in Amount}
        found = usage.unusual(
            self.detector.usage, hour, of_asset, of_actors, lambda amount: self._baseline(asset, amount, hour)
        )
        if found is not None:
            self._alerted[asset].add(hour)
            self._raise(at, found.rule.id, asset + found.actor)

    def _baseline(self, asset: str, amount: Amount, hour: int) -> usage.Baseline:
        """As of the last midnight, as replicas learn it."""
        known = self._baselines.get((asset, amount))
        if known is None or known[0] != hour // 24:
            amounts = self._hours[asset, amount]
            until = hour - hour % 24
            past = {at: one for at, one in amounts.items() if at < until}
            known = hour // 24, usage.learn(past, until, self._alerted[asset])
            self._baselines[asset, amount] = known
        return known[1]

    def _check_rates(self, whom: str, used: Used, at: float) -> None:
        share = used.a_minute / used.requests if used.requests else 0.0
        values = {
            Metric.REQUESTS_PER_MINUTE: used.a_minute,
            Metric.TOKENS_PER_MINUTE: used.tokens * share,
            Metric.COST_USD_PER_HOUR: used.cost_usd,
        }
        for rule, detection in self.detector.rates:
            if detection.by == "actor" and values.get(detection.metric, 0.0) > detection.threshold:
                self._raise(at, rule.id, whom)

    def _raise(self, at: float, rule: str, whom: str) -> None:
        last = self._last.get((rule, whom))
        self._last[rule, whom] = at
        if last is None or at - last > FOLDING_SECONDS:
            self.alerts.append((at, rule, whom))


def amounts_of(used: Used) -> list[tuple[Amount, float]]:
    return [(Amount.REQUESTS, used.requests), (Amount.TOKENS, used.tokens), (Amount.COST_USD, used.cost_usd)]


def seeded(*parts: object) -> random.Random:
    return random.Random("/".join(map(str, parts)))

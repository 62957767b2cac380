"""Attacks that take several interactions raise their alerts; thirty ordinary days of fifty assets stay quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile
from uuid import UUID

import pytest

from services.detection.domain.similarity import PromptIndex, fragments_of
from services.detection.domain.trackers.canaries import CanaryIndex, marks_of
from services.detection.tests import attacks
from services.detection.tests.talks import Talk, Turn, Words, session
from services.detection.tests.traffic import START_HOUR, TrafficOf, Used, fleet
from services.detection.tests.watch import Watch, seeded, the_detector

KEY = b"scenarios"
SEEDS = range(8)
WARM_DAYS, DAYS = 7, 30
SESSIONS_A_DAY = 1
"""Of each asset: a sample."""
PROMPT = (
    "Never mention the price of the suites before the guest has named a date and a number of persons. If somebody asks "
    "for the manager, say that she is on holiday until the end of the month and offer to take a message for her."
)
CANARY = "cnry7f3a91bb04e2d8"


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch(the_detector())


def attack_of(make: Callable[[Words, Talk], Iterator[Turn]], seed: int) -> tuple[Iterator[Turn], Talk]:
    rng = seeded(make.__name__, seed)
    talk = Talk(UUID(int=0xA77AC + seed), f"{make.__name__}-{seed}", f"mallory-{make.__name__}-{seed}")
    return make(Words(rng), talk), talk


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (attacks.crescendo, {"rephrased_after_refusal", "complied_after_refusal"}),
        (attacks.in_pieces, {"payload_in_pieces"}),
        (attacks.injected_page, {"exfiltration_sequence"}),
        (attacks.injected_mail, {"exfiltration_sequence"}),
        (attacks.injected_command, {"untrusted_command"}),
        (attacks.denied_calls, {"probing_denied_calls"}),
        (attacks.endless_loop, {"identical_calls"}),
        (attacks.scraping, {"model_scraping"}),
        (attacks.scraping_by_dictionary, {"model_scraping"}),
        (attacks.membership, {"membership_probing"}),
        (attacks.likelihoods, {"membership_probing"}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_attack_over_several_interactions_is_found(
    watch: Watch, make: Callable[[Words, Talk], Iterator[Turn]], rules: set[str]
) -> None:
    for seed in SEEDS if "scraping" not in make.__name__ else range(3):
        turns, talk = attack_of(make, seed)
        found = {one.rule_id for one in watch.follow(turns, START_HOUR * 3_600.0)}
        assert found & rules, f"seed {seed}: {sorted(found)}"
        assert any(talk.session_id in whom for _, _, whom in watch.alerts), f"seed {seed} raised no alert"


def test_a_prompt_and_a_canary_that_leak_in_pieces_are_found(watch: Watch) -> None:
    watch.prompts = PromptIndex(fragments_of(PROMPT, KEY), KEY)
    watch.canaries = CanaryIndex(marks_of(CANARY, KEY), KEY)
    for seed in SEEDS:
        words = Words(seeded("leak", seed))
        talk = Talk(UUID(int=0x1EA4 + seed), f"leak-{seed}", "mallory")
        found = watch.follow(attacks.leak_in_pieces(words, talk, PROMPT), START_HOUR * 3_600.0)
        assert "prompt_leaks_in_pieces" in {one.rule_id for one in found}
        talk = Talk(talk.asset_id, f"canary-{seed}", "mallory")
        found = watch.follow(attacks.canary_in_pieces(words, talk, CANARY), START_HOUR * 3_600.0)
        assert "canary_in_output" in {one.rule_id for one in found}
    watch.prompts = watch.canaries = None


# -- money ---------------------------------------------------------------------------------------------------------


def an_asset(seed: int) -> TrafficOf:
    """The one of a fleet that is most worth abusing, of those without bursts of their own."""
    return max(
        (one for one in fleet(seed) if not one.bursts), key=lambda one: one.requests_an_hour * one.tokens_a_request
    )


def burst(requests: float, tokens: float) -> Used:
    return Used(requests, requests * tokens, requests * tokens * 4e-6, requests / 60)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stolen_key_is_found_in_its_first_hour(seed: int) -> None:
    watch = Watch(the_detector())
    traffic = an_asset(seed)
    hours = play(watch, traffic, seed, 14 * 24 + 3)
    usual = max(sum(one.tokens for one in used.values()) for used in hours)
    hour = START_HOUR + len(hours)
    spent = traffic.hour(seeded(seed, "now"), hour) | {"stolen-key": burst(6 * usual / 3_000, 3_000)}
    watch.hour(traffic, hour, spent)
    raised = [rule for at, rule, _ in watch.alerts if at == hour * 3_600.0]
    assert set(raised) & {"actor_cost_above_whole_asset", "actor_tokens_above_whole_asset"}, raised


@pytest.mark.parametrize("seed", SEEDS)
def test_many_keys_that_each_take_a_little_are_found(seed: int) -> None:
    watch = Watch(the_detector())
    traffic = an_asset(seed)
    hours = play(watch, traffic, seed, 14 * 24 + 3)
    usual = max(sum(one.tokens for one in used.values()) for used in hours)
    for hour in range(START_HOUR + len(hours), START_HOUR + len(hours) + 4):
        watch.hour(traffic, hour, {f"bot-{at}": burst(4 * usual / 200 / 3_000, 3_000) for at in range(200)})
    raised = {rule for at, rule, _ in watch.alerts if at >= (START_HOUR + len(hours)) * 3_600.0}
    assert any(rule.endswith(("_far_above_usual", "_above_usual_for_hours")) for rule in raised), raised


def play(watch: Watch, traffic: TrafficOf, seed: int, hours: int) -> list[dict[str, Used]]:
    rng = seeded(seed, "play")
    played = []
    for hour in range(START_HOUR, START_HOUR + hours):
        played.append(traffic.hour(rng, hour))
        watch.hour(traffic, hour, played[-1])
    return played


# -- quiet ---------------------------------------------------------------------------------------------------------


def test_fifty_assets_are_quiet_for_thirty_days(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything ordinary: days, weeks, growth, batch jobs, month end, campaigns, load tests, releases, bad days."""
    watch = Watch(the_detector())
    seed = 20_260_112
    assets = fleet(seed, days=WARM_DAYS + DAYS)
    rng = seeded(seed, "hours")
    for day in range(WARM_DAYS + DAYS):
        midnight = START_HOUR + 24 * day
        for traffic in assets:
            for hour in range(midnight, midnight + 24):
                watch.hour(traffic, hour, traffic.hour(rng, hour))
            for number in range(SESSIONS_A_DAY):
                turns = session(seeded(seed, traffic.name, day, number), traffic, number, day)
                watch.follow(turns, (midnight + 8 + number) * 3_600.0)
        watch.forget_sessions()
    counted_from = (START_HOUR + 24 * WARM_DAYS) * 3_600.0
    rate = (
        len(list(takewhile(lambda at: at >= counted_from, sorted((at for at, _, _ in watch.alerts), reverse=True))))
        / DAYS
    )
    with capsys.disabled():
        print(
            f"\n{len(assets)} assets, {DAYS} days, {watch.interactions} interactions: {rate:.2f} false alerts a day,"
            f" {dict(watch.rules(counted_from))}; in the {WARM_DAYS} "
            f"days before {len(watch.alerts) - round(rate * DAYS)}"
        )
    assert rate <= 1.0
    assert len(watch.alerts) <= DAYS

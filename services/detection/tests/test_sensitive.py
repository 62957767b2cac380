"""Secrets and personal data: recall and false positives on invented texts, and what an asset changes about them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import UUID
from zlib import crc32

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from services.detection import pack
from services.detection.domain import validators
from services.detection.domain.assets import Asset, Mode, Profile
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.evidence import redact
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.validators import Around
from services.detection.domain.validators.credentials import checksum_holds, published
from services.detection.domain.verdict import Finding, decide, weigh
from services.detection.training import personal, secrets
from services.detection.training.sensitive import Sample
from shared.contracts.detection import Decision, Direction, FindingKind, Verdict
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return pack.detector(Loaded(one.rule, 1) for one in pack.shipped().values())


def look(
    detector: Detector, text: str, direction: Direction = Direction.INPUT, asset: Asset | None = None
) -> tuple[tuple[Finding, ...], Verdict]:
    interaction = Interaction(
        direction, (Segment("/content", direction, text),), asset_id=asset.asset_id if asset else None
    )
    findings = detector.inspect(interaction, now=NOW, asset=asset).findings
    return findings, weigh(findings)[0]


def an_asset(data_classification: DataClassification) -> Asset:
    return Asset(UUID(int=1), 1, "desk", "sales", AssetType.AI_AGENT, data_classification, Lifecycle.ACTIVE)


@pytest.mark.parametrize(
    ("make", "kind", "seed", "least"),
    [
        (secrets.secrets, FindingKind.SECRET, 11, 0.97),
        (secrets.near_secrets, FindingKind.SECRET, 12, 0.99),
        (personal.personal, FindingKind.PII, 13, 0.97),
        (personal.impersonal, FindingKind.PII, 14, 0.99),
    ],
)
def test_secrets_and_personal_data_are_told_from_what_looks_like_them(
    detector: Detector, make: Callable[[int], Iterable[Sample]], kind: FindingKind, seed: int, least: float
) -> None:
    wrong: Counter[str] = Counter()
    examples: dict[str, str] = {}
    total: Counter[str] = Counter()
    for sample in make(seed):
        findings, verdict = look(detector, sample.text)
        total[sample.kind] += 1
        # Personal data short of restricted is listed and masked, and no verdict.
        found = any(one.kind is kind for one in findings) or (not sample.flagged and verdict is not Verdict.ALLOW)
        if found is not sample.flagged:
            wrong[sample.kind] += 1
            examples.setdefault(sample.kind, sample.text)
    assert 1 - wrong.total() / total.total() >= least, examples
    half_wrong = {name: examples[name] for name, count in wrong.items() if count * 2 > total[name]}
    assert not half_wrong, "no kind may be missed as a whole"


def test_a_finding_and_its_mask_name_the_provider(detector: Detector) -> None:
    text = "export NPM=npm_g5rMmKsSrhD9mrhonF216QHyMdqiofSyvmGT"
    inspected = detector.inspect(Interaction(Direction.INPUT, (Segment("/content", Direction.INPUT, text),)), now=NOW)
    assert "NPM_TOKEN" in inspected.findings[0].title
    assert redact(text, inspected.redactions["/content"]) == "export NPM=[NPM_TOKEN]"


@pytest.mark.parametrize(
    ("direction", "data_classification", "verdict", "decision"),
    [
        (Direction.INPUT, None, Verdict.ALLOW, Decision.ALLOW),
        (Direction.DOCUMENT, None, Verdict.ALLOW, Decision.ALLOW),
        (Direction.OUTPUT, None, Verdict.FLAG, Decision.REDACT),
        (Direction.INPUT, DataClassification.PUBLIC, Verdict.FLAG, Decision.REDACT),
        (Direction.INPUT, DataClassification.CONFIDENTIAL, Verdict.ALLOW, Decision.ALLOW),
        (Direction.OUTPUT, DataClassification.CONFIDENTIAL, Verdict.FLAG, Decision.REDACT),
    ],
)
def test_personal_data_is_flagged_unless_the_asset_may_handle_it(
    detector: Detector,
    direction: Direction,
    data_classification: DataClassification | None,
    verdict: Verdict,
    decision: Decision,
) -> None:
    asset = an_asset(data_classification) if data_classification else None
    findings, held = look(detector, "Write to anna.schmidt@posteo.de", direction, asset)
    assert held is verdict
    assert decide(findings, Mode.ENFORCE) is decision
    assert any(one.rule_id == "email_address" for one in findings), "it is listed either way"


@pytest.mark.parametrize("direction", [Direction.INPUT, Direction.TOOL_CALL])
def test_a_list_of_people_is_flagged_where_one_of_them_is_not(detector: Detector, direction: Direction) -> None:
    people = [
        f"{name}@posteo.de"
        for name in ["anna", "berta", "carla", "doris", "emma", "frida", "gerda", "hanna", "irma", "jutta"]
    ]
    assert look(detector, f"Write to {people[0]} at noon", direction)[1] is Verdict.ALLOW
    assert look(detector, "\n".join(people), direction)[1] is Verdict.FLAG
    assert look(detector, " and ".join([people[0]] * 12), direction)[1] is Verdict.ALLOW, "one person, however often"


def test_what_somebody_tells_an_unknown_asset_of_a_person_is_a_verdict_of_the_strict_profile(
    detector: Detector,
) -> None:
    findings, _ = look(detector, "Write to anna.schmidt@posteo.de, +49 30 901820")
    assert {one.rule_id for one in findings} == {"email_address", "phone_number"}
    assert weigh(findings)[0] is Verdict.ALLOW
    assert weigh(findings, Profile.STRICT)[0] is Verdict.FLAG


def test_every_value_of_a_dump_is_masked(detector: Detector) -> None:
    dump = "\n".join(f"person{at}.of.the.list@posteo.de" for at in range(1_500))
    inspected = detector.inspect(Interaction(Direction.OUTPUT, (Segment("/content", Direction.OUTPUT, dump),)), now=NOW)
    assert "@" not in redact(dump, inspected.redactions["/content"])


def test_a_value_is_measured_by_how_unlike_writing_it_is() -> None:
    written = ("customer_invoice_handler", "AbstractBeanFactory", "correcthorsebatterystaple", "production-west-europe")
    made = ("q7Zt2mVx9LbR4wKe8HsD1nYc", "ph9se8tvo7lkfwy704q37pn2o71tvw4y", "KZGPWHNSXJQVTFWQRHPL")
    assert max(map(validators.surprise, written)) < 0.5 < 0.9 < min(map(validators.surprise, made))


def test_a_checksum_that_holds_proves_a_token() -> None:
    token = "ghp_" + "A" * 30 + "0"
    assert not checksum_holds("GITHUB_TOKEN", token)
    number, digits = crc32(b"A" * 30), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + digits
    assert checksum_holds("GITHUB_TOKEN", "ghp_" + "A" * 30 + digits)
    assert validators.plausible_secret("ghp_" + "A" * 30 + digits, Around(label="GITHUB_TOKEN"))


def test_what_vendors_print_is_no_leak() -> None:
    azurite = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    assert published(azurite)
    assert not validators.plausible_secret(azurite)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("client_secret", True),
        ("jobCredentialsId", False),
        ("public_key", False),
        ("cache_key", False),
        ("api_key", True),
    ],
)
def test_the_name_before_a_value_decides_what_it_is(name: str, secret: bool) -> None:
    value = "q7Zt2mVx9LbR4wKe8HsD1nYc"
    assert validators.assigned_secret(value, Around(before=f'  "{name}": "', after='",')) is secret


def private_keys() -> dict[str, str]:
    rsa_key = rsa.generate_private_key(65_537, 2_048)
    ec_key, ed_key = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    plain = serialization.NoEncryption()
    made = {
        "PKCS 1": rsa_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, plain),
        "PKCS 8": rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, plain),
        "EC": ec_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, plain),
        "OpenSSH": ed_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, plain),
        "Ed25519": ed_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, plain),
    }
    return {name: key.decode() for name, key in made.items()}


@pytest.mark.parametrize("name", ["PKCS 1", "PKCS 8", "EC", "OpenSSH", "Ed25519"])
def test_a_private_key_as_tools_write_it_is_masked_whole(name: str, detector: Detector) -> None:
    key = private_keys()[name]
    lines = key.split("\n")
    forms = {
        "alone": f"here:\n{key}\nend of it",
        "in JSON": json.dumps({"key": key}),
        "quoted": "\n".join(f"> {line}" for line in lines),
        "indented": "\n".join(f"    {line}" for line in lines),
        "cut": key[:150],
    }
    for form, text in forms.items():
        segment = Segment("/content", Direction.TOOL_RESULT, text)
        inspected = detector.inspect(Interaction(Direction.TOOL_RESULT, (segment,)), now=NOW)
        assert "private_key" in {one.rule_id for one in inspected.findings}, form
        shown = redact(text, inspected.redactions["/content"])
        assert [line for line in lines if len(line) > 20 and "KEY" not in line and line in shown] == [], form

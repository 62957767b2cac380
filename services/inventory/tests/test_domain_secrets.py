"""Credentials leave discovery as references: the value in no text, and what is no credential untouched."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.secrets import is_placeholder, reference, secrets_in, without_secrets
from shared.contracts.inventory import AssetType, Relation

BODY = "Zk3Rv9Qm2Xw8Tn5Lp7Ys4Bd6Hf1Jc0GaEuVi"
PLANTED = {
    "anthropic": f"sk-ant-api03-{BODY}",
    "openai": f"sk-proj-{BODY}",
    "huggingface": f"hf_{BODY[:34]}",
    "aws": "AKIAQ2W3E4R5T6Y7U2I3",
    "google": f"AIza{BODY[:35]}",
    "databricks": "dapi" + hashlib.md5(b"planted", usedforsecurity=False).hexdigest(),
    "github": f"ghp_{BODY}",
}
FRAMES = (
    'OPENAI_API_KEY="{}"',
    "curl -H 'Authorization: Bearer {}' x",
    "{}",
    '{{"key": "{}"}}',
    "a,{},b",
    "url?k={}&z",
)


@pytest.mark.parametrize("issuer", PLANTED)
@pytest.mark.parametrize("frame", FRAMES)
def test_a_known_format_is_taken_out_of_any_text(issuer: str, frame: str) -> None:
    value = PLANTED[issuer]
    cleaned = without_secrets(frame.format(value))
    assert value not in cleaned
    assert value[5:-5] not in cleaned
    assert f"[{issuer} credential ...{value[-4:]}" in cleaned


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://app:hunter2hunter2@db.acme.example/rag", "hunter2hunter2"),
        ("password: correct-horse-battery", "correct-horse-battery"),
        ("AZURE_CLIENT_SECRET=Q~8.abcDEFghi_123", "Q~8.abcDEFghi_123"),
        ('"apiKey": "d41d8cd98f00b204e980"', "d41d8cd98f00b204e980"),
        ("authorization: bearer 0123456789abcdef0123", "0123456789abcdef0123"),
        ("https://x.blob.core.windows.net/c?sv=1&sig=AbCdEf0123456789%2B", "AbCdEf0123456789%2B"),
    ],
)
def test_a_value_beside_a_name_is_taken_out(text: str, secret: str) -> None:
    assert secret not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "api_key=${OPENAI_API_KEY}",
        "password: <your-password>",
        'token: "{{ vault.token }}"',
        "arn:aws:bedrock:eu-west-1:123456789012:custom-model/amazon.titan-text-express-v1/abc",
        "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct",
        "sha256:" + "ab" * 32,
        "max_tokens=4096",
        "The token limit is 8192 tokens.",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_placeholders_are_told_from_values() -> None:
    assert is_placeholder("${KEY}")
    assert is_placeholder("changeme")
    assert not is_placeholder(PLANTED["openai"])


def test_equal_credentials_have_equal_fingerprints_and_short_ones_show_nothing() -> None:
    assert reference(PLANTED["aws"]).fingerprint == hashlib.sha256(PLANTED["aws"].encode()).hexdigest()
    assert reference("short-secret").last_four == ""


@given(st.text(max_size=200), st.sampled_from(sorted(PLANTED.values())), st.text(max_size=200))
def test_cleaning_twice_is_cleaning_once(before: str, value: str, after: str) -> None:
    cleaned = without_secrets(f"{before} {value} {after}")
    assert value not in cleaned
    assert all(not str(one).endswith(value) for _, _, one in secrets_in(cleaned))


def test_nothing_of_a_found_entry_keeps_a_credential() -> None:
    value = PLANTED["openai"]
    entry = Found(
        f"agents.yaml#{value}",
        found("x", name=f"agent {value}", asset_type=AssetType.AI_AGENT, authorized_tools=(f"t-{value}",)).claims,
        identities=(f"agent:{value}",),
        links=(Link(Relation.USES_MODEL, value, f"a:{value}"),),
        observations=(Observation(ObservationKind.INLINE_SECRET, Severity.HIGH, value, value),),
        card={"limitations": [value], "nested": {"a": value}},
    ).declared("l", owner_team=value)
    assert value in repr(entry)
    assert value not in repr(entry.without_secrets())


def test_spellings_of_one_address_are_one_identity() -> None:
    spellings = ("https://API.acme.example:443/v1/", "https://api.acme.example/v1", "http://api.acme.example:80/v1?x=1")
    assert {identity.endpoint(url) for url in spellings} == {"url:web://api.acme.example/v1"}
    assert identity.endpoint("http://localhost:8000/v1") is None
    assert identity.endpoint("http://api.acme.example:8000/v1") != identity.endpoint("http://api.acme.example/v1")
    upper = "/SUBSCRIPTIONS/1/resourceGroups/A"
    assert identity.resource(upper) == identity.resource(upper.lower())

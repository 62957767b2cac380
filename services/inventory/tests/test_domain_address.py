"""Addresses: what may be shown as a link is taken, what a browser would run is not."""

from __future__ import annotations

import pytest

from services.inventory.domain.address import address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/claims?x=1#y",
        "HTTPS://EXAMPLE.COM",
        "http://[::1]:8080/v1",
        "s3://bucket/model",
        "hf://acme/tiny",
        "pkg:huggingface/acme/tiny@1",
        "arn:aws:bedrock:eu-west-1::foundation-model/x",
        "vault://ai/openai#sk-prod",
        "git@github.com:acme/tiny",
        "acme/tiny",
        "/models/My model",
        "localhost:11434/v1",
        "chat.internal:8080",
        "10.0.0.7:80",
    ],
)
def test_an_address_or_a_reference_is_taken_as_it_is(text: str) -> None:
    assert address(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("javascript:alert(1)", "javascript"),
        ("JaVaScRiPt:alert(1)", "javascript"),
        ("javascript:1/alert(1)", "javascript"),
        ("javascript://a.b:80/%0aalert(1)", "javascript"),
        ("data:text/html,<script>", "data"),
        ("vbscript:x", "vbscript"),
        ("blob:https://example.com/x", "blob"),
        ("java\nscript:alert(1)", "character"),
        ("\x01javascript:alert(1)", "character"),
        ("\u200bjavascript:alert(1)", "character"),
        ("https://example.com/\u202egnp.exe", "character"),
        ("https:example.com", "no host"),
        ("https:///path", "no host"),
        ("http:javascript:1", "no host"),
        ("http://[x", "IPv6"),
    ],
)
def test_what_a_browser_would_run_or_a_person_misread_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        address(text)

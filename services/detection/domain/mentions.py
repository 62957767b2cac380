"""Telling the mention of an attack from its use: security prose quotes the very words that rules look for."""

from __future__ import annotations

import re

_REACH = 160
_QUOTES = "\"'`“”‘’«»„"
_CLOSING = {"“": "”", "‘": "’", "«": "»", "„": "“"}
_DISCUSSION = re.compile(
    r"(?i)\b(?:prompt[- ]injections?|jailbreak(?:s|ing)?|attack(?:s|er|ers)?|adversar\w+|malicious|exploit\w*"
    r"|vulnerab\w+|guardrails?|detect(?:s|or|ors|ion|ing)?|red[- ]?team\w*|phrases?|keywords?|patterns?"
    r"|such as|e\.g\.|for example|examples?|probes?|payloads?|test cases?|blocklist\w*|filters?|classif\w+|mitigat\w+"
    r"|defen[cs]e\w*|security)\b"
)


def is_mention(text: str, start: int, end: int) -> bool:
    """True when the span stands inside quotation marks and what is around the quotation talks about such words.

    Either alone proves nothing: attackers quote, and attackers write about security.
    """
    before = text[max(0, start - _REACH) : start].rsplit("\n\n", 1)[-1]
    after = text[end : end + _REACH].split("\n\n", 1)[0]
    opened = max(before.rfind(quote) for quote in _QUOTES)
    closed = min((at for quote in _QUOTES if (at := after.find(quote)) >= 0), default=-1)
    if opened < 0 or closed < 0 or _CLOSING.get(before[opened], before[opened]) != after[closed]:
        return False
    quotation = start - (len(before) - opened), end + closed + 1
    around = (
        text[max(0, quotation[0] - 2 * _REACH) : quotation[0]] + " " + text[quotation[1] : quotation[1] + 2 * _REACH]
    )
    return _DISCUSSION.search(around) is not None

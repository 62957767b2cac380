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


_ERRAND = re.compile(
    r"\b(?:(?:given|sent|posted|printed)\s+)?(?:about|regarding|concerning|as\s+to|on|for|zur|zum|zu\s+de[nr]"
    r"|betreffend|bezuglich|fur|για|σχετικα\s+με|concernant|au\s+sujet|sobre|para|per|riguardo)\s+(?:[^\W\d_]+\s+){0,2}"
    r"(?:deliver|parcel|package|shipment|shipping|parking|garage|exit|lift|elevator|assembl|installation|cleaning"
    r"|reservation|booking|appointment|flight|hotel|medication|dosage|diet|recipe|homework|assignment|dress|uniform"
    r"|return|refund|pick-?up|evacuation|seating|south|north|lieferung|brandschutz|reinigung|montage|parken|bestellung|abholung"
    r"|ruckgabe|termin|hausaufgabe|παραδοσ|εγκατασταση|παραγγελια|σταθμευση|livraison|montage|stationnement|entrega"
    r"|estacionamiento|consegna|parcheggio)"
    r"|\b(?:παραδοση|συναρμολογηση|and\s+(?:leave|evacuate)\s+(?:\w+\s+){0,2}(?:building|office|school|floor))"
)
"""What follows words that set instructions aside where they are about an errand: no model is told how to park."""


_SENTENCE_END = re.compile(r"[.!?;\n]")
_NEAR = 60


def is_mention(text: str, start: int, end: int) -> bool:
    """True when the span stands inside quotation marks and what is around the quotation talks about such words.

    Either alone proves nothing: attackers quote, and attackers write about security. Words that are about an everyday
    errand ("ignore the previous instructions about the parking") are none of an attack either.
    """
    rest = _SENTENCE_END.split(text[end : end + _NEAR], maxsplit=1)[0]
    if _ERRAND.search(text[start:end] + rest):
        return True
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

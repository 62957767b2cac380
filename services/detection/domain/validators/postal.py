"""Postal addresses. Patterns find a number beside words; whether these are a street is decided here.

Names and towns alone are no address; a number and a name may be one, where what stands before promises it. `label`
says what the pattern has seen besides: words that introduce an address, a flat's number, a second number, a town.
"""

from __future__ import annotations

import re

from services.detection.domain.validators.around import NOWHERE, Around

# What else people number: dates, rooms, chapters, products. Any of them in a candidate without a street word ends it.
_NUMBERED = re.compile(
    r"(?i)\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|[ap]\.?m\.?|o.clock|days?|weeks?|months?|years?"
    r"|hours?|minutes?|seconds?"
    r"|room|gate|floor|platform|terminal|page|chapter|level|table|hall|lot|section|part|step|phase|stage|episode"
    r"|season|volume|vol|no|number|figure"
    r"|fig|version|windows|python|java|apollo|boeing|airbus|iphone|channel|highway|route|exit|mile|bus|line|train"
    r"|flight|district|zone|ward|grade|class"
    r"|million|billion|thousand|percent|people|points?|questions?|items?|things|ways|times|reasons|usd|eur|gbp|km|kg"
    r"|miles|dollars|euros|pounds"
    r"|question|answer|option|example|article|rule|act|psalm|genesis|john|matthew|luke|formula|world|war|team|group"
    r"|player|players|stars?|issues?|bedroom|port|line|error|code|input|output|layer|column|row|model|option)\b"
)
_STREET_WORD = re.compile(
    r"(?i)\b(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|circle|place|square|terrace"
    r"|parkway|pkwy|highway|hwy|crescent|close|way|alley|trail|row|mews|grove|gardens|rue|via|viale|piazza|calle"
    r"|avenida|avda|rua|ul|ulica|strasse|straße|weg|platz)\b"
    r"|(?:stra(?:ß|ss)e|gasse|straat|laan|gatan|vägen|vej|katu|utca)\b"
)
# Words that only end like streets, and where licences say that the Free Software Foundation sits.
_NO_STREET = re.compile(
    r"(?i)51 Franklin St|59 Temple Place|\b(?:brigade|renegade|norweg|subway|railway|gateway|hallway|someway|anyway"
    r"|halfway|auntie|zombie)\b"
)
_SENTENCE = re.compile(
    r"[.!?;:]\s+[A-Z]?[a-z]+\s+[a-z]+\s"
    r"|[{}=;@#$%^*_\\]|\b(?:is|are|was|were|has|have|will|that|which|who|with|and the)\b"
)
_YEAR = re.compile(r"(?:1[89]|20)\d\d\b")
_CAPITAL = re.compile(r"[^\W\d_a-z]")


def street_address(value: str, around: Around = NOWHERE) -> bool:
    """Whether a candidate reads as an address rather than as a date, a room, a product or a sentence."""
    if _NO_STREET.search(value):
        return False
    if around.label in ("STREET_ADDRESS", "POST_BOX"):
        return True
    if _CAPITAL.search(value) is None and around.label != "FLAT_ADDRESS":
        return False
    if _SENTENCE.search(value) or (around.label == "NUMBERED_STREET" and _YEAR.match(value)):
        return False
    if around.label == "FLAT_ADDRESS" or _STREET_WORD.search(value):
        return True
    return _NUMBERED.search(value) is None

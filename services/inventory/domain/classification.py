"""What an asset's words and neighbours suggest of its data class and of its tier under the EU AI Act, with the reasons.

A suggestion never becomes a fact by itself: a person confirms it. Tiers and areas are those of Regulation (EU)
2024/1689 as amended by Regulation (EU) 2026/1744: Art. 5 (prohibited practices), Art. 6(2) with Annex III (high-risk
uses), Art. 50 (transparency). Whether an Annex III use is exempt under Art. 6(3) is for people to assess.
No legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.contracts.inventory import AssetType, DataClassification


class Tier(StrEnum):
    """How the EU AI Act treats a system, the strictest first."""

    PROHIBITED_PRACTICE = "prohibited_practice"
    HIGH_RISK = "high_risk"
    LIMITED_RISK = "limited_risk"
    MINIMAL_RISK = "minimal_risk"


class Question(StrEnum):
    """What an intake asks; yes or no."""

    DECIDES_ABOUT_PEOPLE = "decides_about_people"
    PROFILES_PEOPLE = "profiles_people"
    TALKS_TO_PEOPLE = "talks_to_people"
    GENERATES_CONTENT = "generates_content"
    INFERS_EMOTIONS = "infers_emotions"
    USES_BIOMETRICS = "uses_biometrics"
    HOLDS_PERSONAL_DATA = "holds_personal_data"
    HOLDS_SPECIAL_CATEGORIES = "holds_special_categories"
    HOLDS_PAYMENT_DATA = "holds_payment_data"


QUESTIONS: Mapping[Question, tuple[str, str]] = {
    Question.DECIDES_ABOUT_PEOPLE: (
        "Does its output decide, or prepare a decision, about a person (job, credit, schooling, benefits, insurance)?",
        "Art. 6(2), Annex III",
    ),
    Question.PROFILES_PEOPLE: ("Does it profile people?", "Art. 6(3): what profiles people is never exempt"),
    Question.TALKS_TO_PEOPLE: ("Do people talk to it directly?", "Art. 50(1)"),
    Question.GENERATES_CONTENT: ("Does it make text, images, sound or video that others see?", "Art. 50(2), 50(4)"),
    Question.INFERS_EMOTIONS: ("Does it infer emotions of people?", "Art. 5(1)(f), 50(3); Annex III 1(c)"),
    Question.USES_BIOMETRICS: (
        "Does it identify or categorise people by their bodies?",
        "Art. 5(1)(g)-(h), Annex III 1",
    ),
    Question.HOLDS_PERSONAL_DATA: ("Does it hold or see personal data?", "GDPR Art. 4(1)"),
    Question.HOLDS_SPECIAL_CATEGORIES: ("Does it see data on health, belief, origin or sexuality?", "GDPR Art. 9"),
    Question.HOLDS_PAYMENT_DATA: ("Does it see payment card data?", "PCI DSS"),
}
"""Question -> its words, and what makes it matter."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Why something is suggested. `article` is empty for data classes; `where` is a field, an answer or a neighbour."""

    says: str
    article: str
    where: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is suggested, None where nothing speaks for anything, and every ground for it."""

    data_classification: DataClassification | None
    data_grounds: tuple[Ground, ...]
    tier: Tier
    tier_grounds: tuple[Ground, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be classified: texts by field, what it is, answers that were given, and what it stands on."""

    asset_type: AssetType
    texts: Mapping[str, str]
    answers: Mapping[Question, bool]
    upstream: Sequence[tuple[str, DataClassification]] = ()


def _words(*stems: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(stems) + ")", re.IGNORECASE)


_WORK = r"(?:at\s+work|workplace|employees?|staff|workers?|students?|pupils?|classroom|school)"
_PROHIBITED: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_words(r"social[\s-]scor"), "scores people by their social behaviour", "Art. 5(1)(c)"),
    (
        _words(rf"emotion\w*\W+(?:\w+\W+){{0,6}}{_WORK}", rf"{_WORK}\W+(?:\w+\W+){{0,6}}emotion"),
        "infers emotions at work or school",
        "Art. 5(1)(f)",
    ),
    (
        _words(r"scrap\w*\W+(?:\w+\W+){0,4}fac(?:es|ial)\b"),
        "gathers faces from the net without a target",
        "Art. 5(1)(e)",
    ),
    (
        _words(r"predict\w*\W+(?:\w+\W+){0,5}(?:crim|offend|reoffend)\w*\W+(?:\w+\W+){0,4}profil"),
        "predicts crime from a profile alone",
        "Art. 5(1)(d)",
    ),
)
_ANNEX_III: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_words(r"biometric", r"fac(?:e|ial)\s+recognition", r"emotion\s+recognition"), "biometrics", "1"),
    (
        _words(
            r"critical\s+infrastructure",
            r"(?:power|electricity|gas|water)\s+(?:grid|supply|network)",
            r"road\s+traffic",
        ),
        "critical infrastructure",
        "2",
    ),
    (
        _words(
            r"admission",
            r"exam(?:ination)?\s+(?:grad|scor|proctor)",
            r"grad(?:es?|ing)\s+(?:of\s+)?(?:students|essays|exams)",
            r"proctor",
        ),
        "education and training",
        "3",
    ),
    (
        _words(
            r"recruit",
            r"hiring",
            r"r[eé]sum[eé]s?\b",
            r"cvs?\b",
            r"applicants?\b",
            r"candidates?\s+(?:rank|screen|scor)",
            r"promotion\s+decisions?",
            r"dismissal",
            r"performance\s+review",
            r"worker\s+management",
        ),
        "employment and worker management",
        "4",
    ),
    (
        _words(
            r"credit[\s-]?(?:scor|worth|risk|decision)",
            r"loan\s+(?:approv|decision|applica)",
            r"creditworth",
            r"(?:life|health)\s+insurance\W+(?:\w+\W+){0,4}(?:pric|premium|risk|underwrit)",
            r"(?:welfare|social\s+benefit|asylum\s+benefit)",
            r"emergency\s+(?:calls?|dispatch|triage)",
        ),
        "essential private and public services",
        "5",
    ),
    (_words(r"law\s+enforcement", r"police\b", r"criminal\s+investigat", r"polygraph"), "law enforcement", "6"),
    (_words(r"migration", r"asylum", r"border\s+control", r"visa\s+applica"), "migration, asylum, border", "7"),
    (
        _words(r"judicial", r"court\s+(?:decision|ruling|case)", r"sentencing", r"election", r"voter"),
        "justice and democratic processes",
        "8",
    ),
)
_TRANSPARENCY: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        _words(r"chat\s?bots?\b", r"virtual\s+assistant", r"customers?\s+(?:chat|talk|ask)", r"answers?\s+customers?"),
        "people talk to it",
        "Art. 50(1)",
    ),
    (
        _words(r"generat\w*\W+(?:\w+\W+){0,3}(?:images?|videos?|audio|voices?|articles?|marketing)", r"deep\s?fakes?"),
        "it makes content that others see",
        "Art. 50(2), 50(4)",
    ),
)
_DATA: tuple[tuple[re.Pattern[str], str, DataClassification], ...] = (
    (
        _words(r"patients?\b", r"medical", r"health\s+(?:record|data|claim)", r"diagnos", r"clinical"),
        "health data",
        DataClassification.REGULATED,
    ),
    (
        _words(r"card\s?holder", r"payment\s+cards?", r"pci\b", r"credit\s+card\s+(?:number|data)"),
        "payment card data",
        DataClassification.REGULATED,
    ),
    (
        _words(r"salar", r"payroll", r"bank\s+accounts?", r"passports?\b", r"social\s+security", r"national\s+id"),
        "identity or money of persons",
        DataClassification.RESTRICTED,
    ),
    (
        _words(r"credentials?\b", r"secrets?\b", r"api\s+keys?\b", r"trade\s+secrets?"),
        "secrets",
        DataClassification.RESTRICTED,
    ),
    (
        _words(
            r"personal\s+data",
            r"customers?\b",
            r"clients?\b",
            r"employees?\b",
            r"applicants?\b",
            r"e-?mails?\b",
            r"tickets?\b",
        ),
        "data of persons",
        DataClassification.CONFIDENTIAL,
    ),
    (
        _words(r"public(?:ly)?\s+(?:available|documentation|website|data)", r"open\s+data\b", r"press\s+releases?"),
        "public material",
        DataClassification.PUBLIC,
    ),
)
_ORDER = list(DataClassification)
_TALKING = frozenset({AssetType.AI_AGENT})


def suggest(subject: Subject) -> Suggestion:
    """What the subject's words, answers and neighbours suggest. The strictest ground decides; all of them are told."""
    data, data_grounds = _data(subject)
    tier, tier_grounds = _tier(subject)
    return Suggestion(data, tuple(data_grounds), tier, tuple(tier_grounds))


def _data(subject: Subject) -> tuple[DataClassification | None, list[Ground]]:
    found: list[tuple[DataClassification, Ground]] = []
    for field, text in subject.texts.items():
        for pattern, says, classification in _DATA:
            if match := pattern.search(text):
                found.append((classification, Ground(f"{says}: {_shown(match)}", "", field)))
    for question, says, classification in (
        (Question.HOLDS_SPECIAL_CATEGORIES, "data of special categories", DataClassification.REGULATED),
        (Question.HOLDS_PAYMENT_DATA, "payment card data", DataClassification.REGULATED),
        (Question.HOLDS_PERSONAL_DATA, "personal data", DataClassification.CONFIDENTIAL),
    ):
        if subject.answers.get(question):
            found.append((classification, Ground(f"{says}, as was answered", QUESTIONS[question][1], question.value)))
    found += [
        (held, Ground(f"it depends on {name}, which holds {held} data", "", name)) for name, held in subject.upstream
    ]
    if not found:
        return None, []
    found.sort(key=lambda one: -_ORDER.index(one[0]))
    return found[0][0], [ground for _, ground in found]


def _tier(subject: Subject) -> tuple[Tier, list[Ground]]:
    found: list[tuple[Tier, Ground]] = []
    for field, text in subject.texts.items():
        for pattern, says, article in _PROHIBITED:
            if match := pattern.search(text):
                found.append((Tier.PROHIBITED_PRACTICE, Ground(f"{says}: {_shown(match)}", article, field)))
        for pattern, area, point in _ANNEX_III:
            if match := pattern.search(text):
                article = f"Art. 6(2), Annex III {point}"
                found.append((Tier.HIGH_RISK, Ground(f"{area}: {_shown(match)}", article, field)))
        for pattern, says, article in _TRANSPARENCY:
            if match := pattern.search(text):
                found.append((Tier.LIMITED_RISK, Ground(f"{says}: {_shown(match)}", article, field)))
    for question, tier in (
        (Question.DECIDES_ABOUT_PEOPLE, Tier.HIGH_RISK),
        (Question.PROFILES_PEOPLE, Tier.HIGH_RISK),
        (Question.USES_BIOMETRICS, Tier.HIGH_RISK),
        (Question.INFERS_EMOTIONS, Tier.HIGH_RISK),
        (Question.TALKS_TO_PEOPLE, Tier.LIMITED_RISK),
        (Question.GENERATES_CONTENT, Tier.LIMITED_RISK),
    ):
        if subject.answers.get(question):
            found.append((tier, Ground("as was answered", QUESTIONS[question][1], question.value)))
    if subject.asset_type in _TALKING and subject.answers.get(Question.TALKS_TO_PEOPLE) is None:
        found.append(
            (
                Tier.LIMITED_RISK,
                Ground("agents mostly deal with people; say if this one does not", "Art. 50(1)", "asset_type"),
            )
        )
    if not found:
        return Tier.MINIMAL_RISK, [
            Ground("nothing that was said falls under Art. 5, Annex III or Art. 50", "Art. 95", "")
        ]
    order = list(Tier)
    found.sort(key=lambda one: order.index(one[0]))
    return found[0][0], [ground for _, ground in found]


def _shown(match: re.Match[str]) -> str:
    return "“" + " ".join(match[0].split())[:80] + "”"

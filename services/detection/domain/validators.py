"""Is a match what its pattern takes it for? Check digits, entropy and placeholders, so that near misses stay quiet.

The arithmetic is stdnum's and phonenumbers'; ours is which values nobody would call a leak: documentation's own
examples, masks, and words that merely look like a credential.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from typing import Any

import phonenumbers
from stdnum import iban as stdnum_iban
from stdnum import luhn as stdnum_luhn
from stdnum.us import ssn as stdnum_ssn

from services.detection.domain.rules import Validator


def entropy(text: str) -> float:
    """Shannon entropy in bits a character; 0 for an empty text."""
    if not text:
        return 0.0
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


_PLACEHOLDER = re.compile(
    r"(?i)example|sample|dummy|placeholder|changeme|change_me|your[_-]?|my[_-]?(?:secret|token|key|pass)|xxxx|\*{3}|\.{3}|<[^>]*>"
    r"|\$\{|\{\{|redacted|insert|replace|fake|todo|12345678|abcdef(?:gh|12)|0000000|deadbeef|^(?:test|foo|bar)(?:$|[_-])"
)
_PATH = re.compile(
    r"(?:[~.]{0,2}/[\w.-]+){2,}|(?:[a-z]:)?\\\\\w|[\w-]+(?:/[\w-]+)+\.[a-z]{1,5}$|[a-z][\w-]*(?:\.[a-z][\w-]*)+(?:\(|$)"
)
_STAND_INS = frozenset(
    [
        "password",
        "passwd",
        "passw0rd",
        "secret",
        "pass",
        "pw",
        "token",
        "p@ssw0rd",
        "postgres",
        "guest",
        "admin",
        "hunter2",
    ]
)
_SEQUENCES = "abcdefghijklmnopqrstuvwxyz0123456789"
_IDENTIFIER = re.compile(r"[a-z]{1,14}(?:[_\-. ][a-z]{1,14})+|[a-z]+(?:[A-Z][a-z]+)+|[A-Z]+(?:_[A-Z]+)+")


def plausible_secret(value: str) -> bool:
    """False for placeholders, masks, repeated or counted-up characters and identifiers made of words."""
    if _PLACEHOLDER.search(value) or len(set(value)) < 6:
        return False
    if _IDENTIFIER.fullmatch(value) or _PATH.match(value) or value.lower() in _STAND_INS:
        return False
    lowered = value.lower()
    steps = sum(_SEQUENCES.find(one) + 1 == _SEQUENCES.find(two) for one, two in pairwise(lowered))
    return steps < 0.5 * len(value)


def plausible_password(value: str) -> bool:
    """A plausible secret of at least two kinds of characters; a bare word after `password:` is a type or prose."""
    kinds = (str.islower, str.isupper, str.isdigit, lambda one: not one.isalnum())
    return (
        plausible_secret(value) and sum(any(kind(one) for one in value) for kind in kinds) >= 2 and not value.isalpha()
    )


# Numbers that payment providers publish for trying things out: valid by their check digit, and nobody's.
_TEST_CARDS = frozenset(
    {
        "4111111111111111",
        "4242424242424242",
        "4012888888881881",
        "4000056655665556",
        "5555555555554444",
        "5105105105105100",
        "5200828282828210",
        "378282246310005",
        "371449635398431",
        "6011111111111117",
        "6011000990139424",
        "30569309025904",
        "38520000023237",
        "3530111333300000",
        "4000000000000002",
        "4000000000009995",
    }
)
_CARD_PREFIX = re.compile(r"^(?:4|5[1-5]|2[2-7]|3[47]|3[068]|6(?:011|5|4[4-9]|2)|35|50|5[6-8]|6[37])")


def card(value: str) -> bool:
    """A payment card's number: an issuer's prefix, 13 to 19 digits, Luhn's check digit (ISO/IEC 7812-1)."""
    digits = re.sub(r"[ -]", "", value)
    return (
        13 <= len(digits) <= 19
        and _CARD_PREFIX.match(digits) is not None
        and len(set(digits)) > 2
        and digits not in _TEST_CARDS
        and stdnum_luhn.is_valid(digits)
    )


def iban(value: str) -> bool:
    """ISO 13616, mod 97 and the country's own length; `DE89 3704 0044 0532 0130 00` is everybody's example."""
    compact = re.sub(r"[ -]", "", value).upper()
    return bool(stdnum_iban.is_valid(compact)) and compact not in _EXAMPLE_IBANS


_EXAMPLE_IBANS = frozenset({"DE89370400440532013000", "GB82WEST12345698765432", "GB29NWBK60161331926819"})


def phone(value: str) -> bool:
    """A number that its country's plan allots. Without a leading + only North American notation is taken."""
    region = None if value.lstrip().startswith(("+", "00")) else "US"
    text = "+" + value.lstrip()[2:] if value.lstrip().startswith("00") else value
    digits = re.sub(r"\D", "", text)
    # 555-0100 to 555-0199 are set aside for fiction.
    if len(set(digits)) < 4 or re.search(r"555(?:01\d\d)$", digits):
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


_NOBODY = re.compile(
    r"(?i)@(?:[\w.-]+\.)?(?:example\.(?:com|org|net|edu)|test\.com|localhost|invalid|domain\.com|email\.com|company\.com|yourdomain\.com)$"
    r"|@[\w.-]+\.(?:example|invalid|test|local|localhost|internal|png|jpg|jpeg|gif|svg|webp|py|js|ts|css|md)$"
    r"|^(?:git|no-?reply|do-?not-?reply|postmaster|mailer-daemon|root|user(?:name)?|name|someone|example|foo|bar|info|support|sales|hello|contact|admin|security|press|help|office)@"
)


def email(value: str) -> bool:
    """An address of somebody: not a role's mailbox, not a domain set aside for examples (RFC 2606, RFC 6761)."""
    return _NOBODY.search(value) is None and ".." not in value


def ip_address(value: str) -> bool:
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def us_ssn(value: str) -> bool:
    """Allotted areas and groups only; 078-05-1120 and 219-09-9999 were printed in advertisements."""
    return bool(stdnum_ssn.is_valid(value.replace(" ", "-"))) and len(set(value) - {"-", " "}) > 2


# Country -> stdnum module of a personal number with a check digit.
_NATIONAL = {
    "at": "stdnum.at.vnr",
    "au": "stdnum.au.tfn",
    "be": "stdnum.be.nn",
    "br": "stdnum.br.cpf",
    "ca": "stdnum.ca.sin",
    "ch": "stdnum.ch.ssn",
    "cn": "stdnum.cn.ric",
    "cz": "stdnum.cz.rc",
    "de": "stdnum.de.idnr",
    "dk": "stdnum.dk.cpr",
    "es": "stdnum.es.dni",
    "fi": "stdnum.fi.hetu",
    "fr": "stdnum.fr.nir",
    "gb": "stdnum.gb.nhs",
    "in": "stdnum.in_.aadhaar",
    "it": "stdnum.it.codicefiscale",
    "kr": "stdnum.kr.rrn",
    "mx": "stdnum.mx.curp",
    "nl": "stdnum.nl.bsn",
    "no": "stdnum.no.fodselsnummer",
    "pl": "stdnum.pl.pesel",
    "se": "stdnum.se.personnummer",
}


@lru_cache(maxsize=64)
def _national(country: str) -> Any:
    return import_module(_NATIONAL[country])


def national_id(value: str, countries: tuple[str, ...] = tuple(_NATIONAL)) -> bool:
    """Valid by the check digits of one of the named countries. Digits that are all alike never are."""
    if len(set(value) - set(" -./")) < 3:
        return False
    return any(_national(country).is_valid(value) for country in countries)


def jwt(value: str) -> bool:
    """Three parts of which the first is a JSON object naming an algorithm (RFC 7519)."""
    head = value.split(".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


_URL_HOST = re.compile(r"(?i)^(?:https?:)?//([^/?#\s:]+)")
_HARMLESS_HOST = re.compile(
    r"(?i)(?:^|\.)(?:example\.(?:com|org|net)|localhost|shields\.io|githubusercontent\.com|wikimedia\.org|wikipedia\.org|imgur\.com|"
    r"githubassets\.com|badge\.fury\.io|readthedocs\.io)$"
)


def external_url(value: str) -> bool:
    """A link to a host that is not a well-known place for pictures and badges."""
    host = _URL_HOST.match(value)
    return host is not None and _HARMLESS_HOST.search(host.group(1)) is None


_CHECKS: dict[Validator, Callable[[str], bool]] = {
    Validator.LUHN: card,
    Validator.IBAN: iban,
    Validator.PHONE: phone,
    Validator.EMAIL: email,
    Validator.US_SSN: us_ssn,
    Validator.NATIONAL_ID: national_id,
    Validator.SECRET: plausible_secret,
    Validator.PASSWORD: plausible_password,
    Validator.JWT: jwt,
    Validator.IP_ADDRESS: ip_address,
    Validator.EXTERNAL_URL: external_url,
}


def holds(validator: Validator, value: str) -> bool:
    """True when `value` passes the check."""
    return _CHECKS[validator](value)

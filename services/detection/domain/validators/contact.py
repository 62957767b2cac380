"""Where a person is reached: e-mail, telephone, network address, and which of them are nobody's."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

import phonenumbers

from services.detection.domain.validators.around import NOWHERE, Around

_ROLE = re.compile(
    r"(?i)^(?:git|hg|svn|no-?reply|do-?not-?reply|postmaster|mailer-daemon|webmaster|hostmaster|abuse|root"
    r"|user(?:name|\d*)?|name|someone|somebody"
    r"|example|foo|bar|baz|me|you|your[._-]?\w*|my[._-]?\w*|test\w*|email|e-mail|mail|first|firstname[._-]?lastname"
    r"|first[._-]last|info|support|sales|hello|hi|contact|admin\w*|security"
    r"|press|help\w*|docs?|dev(?:el)?|lists?|src|office|team|billing|careers|jobs|privacy|legal|marketing|newsletter"
    r"|service|feedback|notifications?|alerts?|orders?|account)@"
)
_NO_DOMAIN = re.compile(
    r"(?i)@lists?\.|@(?:test\.com|localhost|invalid|domain\.(?:com|tld)|email\.com|company\.com|your[\w-]*\.\w+"
    r"|my[\w-]*domain\.\w+|acme\.(?:com|org)|foo\.\w+|bar\.\w+|site\.com|host\.\w+|server\.\w+)$"
    r"|@[\w.-]+\.(?:example|invalid|test|local|localhost|internal|lan|png|jpe?g|gif|svg|webp|ico|pdf|py|js|ts|tsx|jsx"
    r"|css|md|json|ya?ml|html?|php|go|rs|java|sh|txt|service|timer|target|socket)$"
)
_RESERVED = re.compile(r"(?i)@(?:[\w-]+\.)*example\.(?:com|org|net|edu)$")
# Names that manuals give to people who do not exist.
_NOBODY = frozenset(
    "alice bob carol charlie dave eve mallory trent peggy john jane joe jack jill doe smith foo bar baz"
    " user users test tester testing demo dev admin name first last email mail someone me you"
    " customer client employee manager student"
    " author sender recipient from to cc bcc member owner guest staff person sample example a b c d"
    " x y z abc xyz mike tom jim sam".split()
)
_MADE_UP = frozenset("fake dummy test example sample placeholder noreply".split())
_LETTERS = re.compile(r"[^\W\d_]+")


def email(value: str, around: Around = NOWHERE) -> bool:
    """An address of somebody: not a role's mailbox, not a manual's Alice at a domain set aside for examples (RFC 2606).

    Test data of invented people uses those domains too; a local part with a name of its own is taken for a person's.
    """
    if (
        ".." in value
        or _ROLE.match(value)
        or _NO_DOMAIN.search(value)
        or (around.before.endswith(("://", ":")) and (around.after.startswith((":", "/"))))
    ):
        return False
    words = _LETTERS.findall(value.split("@", 1)[0].lower())
    if not _MADE_UP.isdisjoint(words):
        return False
    if _RESERVED.search(value):
        return max(map(len, words), default=0) >= 5 and not all(word in _NOBODY for word in words)
    return True


_EXTENSION = re.compile(r"(?i)\s*(?:x|ext\.?|#)\s*\d{1,6}$")
_DATE = re.compile(
    r"(?:19|20)\d{2}[ ./-](?:0?[1-9]|1[0-2])[ ./-](?:0?[1-9]|[12]\d|3[01])\b|(?:0?[1-9]|[12]\d|3[01])[ ./-](?:0?[1-9]"
    r"|[12]\d|3[01])[ ./-](?:19|20)\d{2}\b"
)
_OTHER_NUMBER = re.compile(
    r"(?i)(?:\b|_)(?:port|example|sample|build|version|serial|order|ticket|invoice|page|model|part|case|room|flight"
    r"|article|tracking|reference|account|acct|product|item|id|lot|batch|policy|claim|card|isbn|issn|confirmation"
    r"|booking|insurance|sin|ssn|tax|passport|licen[cs]e)\b"
)
# Numbers of nobody: those that the called party pays for, those that cost extra, and lines for everybody.
_LINE = re.compile(
    r"(?i)\b(?:hot|help|life|crisis|info)[ -]?lines?\b|toll[ -]?free|free-?phone|switchboard|numéro\s+vert"
)
_TOLL_FREE = re.compile(
    r"(?:\+?1)?(?:8(?:00|22|33|44|55|66|77|88)|900)\d{7}$|\+800|(?:\+(?:49|44|33|31|34|39|41|43|61|81)|0)"
    r"(?:800|808|900|180\d|84[345]|87[0123])\d{4,7}$"
)
_SERIAL = re.compile(r"\d{3}-\d{3}-\d{3}")
_LOCAL_REGIONS = (
    "DE FR GB IT ES NL BE CH AT IE SE NO DK FI PL CZ SK HU RO BG GR PT TR RU UA IL IN JP KR CN TW HK SG MY TH VN PH"
    " ID PK AU NZ ZA EG NG KE SA AE BR AR CL CO PE HR SI RS LT"
).split()


@lru_cache(maxsize=256)
def _plan(region: str) -> tuple[re.Pattern[str], frozenset[int], str]:
    """A region's numbers: what they look like, their lengths, and the digits dialled before them inside the country."""
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
    described = metadata.general_desc
    return (
        re.compile(described.national_number_pattern),
        frozenset(described.possible_length),
        metadata.national_prefix or "",
    )


@lru_cache(maxsize=256)
def _regions(code: int) -> tuple[str, ...]:
    return tuple(phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()))


def _allotted(national: str, region: str) -> bool:
    pattern, lengths, _ = _plan(region)
    return len(national) in lengths and pattern.fullmatch(national) is not None


def _international(digits: str) -> bool:
    for size in (1, 2, 3):
        regions = _regions(int(digits[:size]))
        if regions:
            national = digits[size:]
            if regions[0] == "001":
                return 8 <= len(national) <= 12
            # A leading 0 in brackets is what one dials at home; Italy's belongs to the number.
            return any(_allotted(one, region) for region in regions for one in (national, national.lstrip("0")))
    return False


def _local(digits: str) -> bool:
    for region in _LOCAL_REGIONS:
        _, _, prefix = _plan(region)
        if prefix and digits.startswith(prefix) and _allotted(digits[len(prefix) :], region):
            return True
        if not prefix and _allotted(digits, region):
            return True
    return False


def phone(value: str, around: Around = NOWHERE) -> bool:
    """A number that some country's plan allots.

    Without + or 00 in front only North American notation and numbers with the prefix for calls inside a country are
    taken; `label` PHONE_NUMBER says that words before it promise a telephone number, and then any number of that
    length that is no date will do.
    """
    text = _EXTENSION.sub("", value.strip())
    digits = re.sub(r"\D", "", text.replace("(0)", "") if text.startswith(("+", "00")) else text)
    # 555-0100 to 555-0199 are set aside for fiction; with an area code, data of invented people have them too.
    if len(set(digits)) < 4 or re.fullmatch(r"55501\d\d", digits) or "123456789" in digits:
        return False
    if _LINE.search(around.before[-40:]) or _TOLL_FREE.match(re.sub(r"[^+\d]", "", text)):
        return False
    if text.startswith("+"):
        return 8 <= len(digits) <= 15 and _international(digits)
    if text.startswith("00"):
        return 10 <= len(digits) <= 17 and _international(digits[2:])
    if _DATE.search(text) or (text.count(".") == 3 and all(int(one or 999) < 256 for one in re.split(r"\D+", text))):
        return False
    if around.label:
        return 6 <= len(digits) <= 13 and _OTHER_NUMBER.search(around.before[-30:]) is None
    if _SERIAL.fullmatch(text):
        return False  # how social insurance and policy numbers are written
    if digits.startswith("0"):
        return 9 <= len(digits) <= 12 and _local(digits)
    national = digits[1:] if len(digits) == 11 and digits.startswith("1") else digits
    return len(national) == 10 and _allotted(national, "US")


_RESOLVERS = frozenset(
    "8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 149.112.112.112 208.67.222.222 208.67.220.220 4.2.2.1 4.2.2.2 64.6.64.6"
    " 94.140.14.14 2001:4860:4860::8888 2001:4860:4860::8844 2606:4700:4700::1111 2606:4700:4700::1001".split()
)
_VERSION = re.compile(r"(?i)(?:\bv|ver(?:sion)?|release|build|firmware|driver|chapter|section|§|oid|[=<>~^]=)[\s:.]*$")


_DOTTED = re.compile(r"(0|[1-9]\d{0,2})" + r"\.(0|[1-9]\d{0,2})" * 3, re.ASCII)
_PARTLY_SPECIAL = frozenset(map(str, (0, 10, 100, 127, 169, 172, 192, 198, 203, *range(224, 256))))
"""First numbers of addresses of which some are not routable: the rest needs no look at forty networks."""
_VERSION_REACH = 48


def ip_address(value: str, around: Around = NOWHERE) -> bool:
    """A routable address that is no public resolver's, and no version number with four parts."""
    if (plain := _DOTTED.fullmatch(value)) is not None and plain.group(1) not in _PARTLY_SPECIAL:
        parts = [int(part) for part in plain.groups()]
        return (
            max(parts) < 256
            and max(parts) > 25
            and value not in _RESOLVERS
            and _VERSION.search(around.before[-_VERSION_REACH:]) is None
        )
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or value.lower() in _RESOLVERS or _VERSION.search(around.before):
        return False
    if address.version == 4:
        return any(int(part) > 25 for part in value.split("."))
    return value.count(":") >= 4 or len(value) > 12


_URL_HOST = re.compile(r"(?i)^(?:https?:)?//([^/?#\s:]+)")
_HARMLESS_HOST = re.compile(
    r"(?i)(?:^|\.)(?:example\.(?:com|org|net)|localhost|shields\.io|githubusercontent\.com|wikimedia\.org"
    r"|wikipedia\.org|imgur\.com|"
    r"githubassets\.com|badge\.fury\.io|readthedocs\.io)$"
)


def external_url(value: str, around: Around = NOWHERE) -> bool:
    """A link to a host that is not a well-known place for pictures and badges."""
    host = _URL_HOST.match(value)
    return host is not None and _HARMLESS_HOST.search(host.group(1)) is None

"""Which values are credentials, and which are placeholders, examples, names and hashes that stand where one would.

Most credentials are random, and nothing that people write is: `surprise` measures it. With names and words under half
a bit a character and random text near three, a threshold of one errs in a percent of either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import re2

from services.detection.domain.validators.around import NOWHERE, Around
from services.detection.domain.validators.bigrams import SYMBOLS, TABLE


def entropy(text: str) -> float:
    """Shannon entropy in bits a character; 0 for an empty text."""
    if not text:
        return 0.0
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


_SIZE = len(SYMBOLS)
_PLACE = {symbol: at for at, symbol in enumerate(SYMBOLS)} | dict.fromkeys("123456789", SYMBOLS.index("0"))
_OTHER = SYMBOLS.index("_")
_BITS = [(ord(one) - 33) * 0.25 for one in TABLE]
_DIGIT_BITS = math.log2(10)
_LONGEST_JUDGED = 160


def surprise(value: str) -> float:
    """Bits a character by which a value is less likely as a name or a word than as random text of its alphabet.

    Positive for random text, negative for what people write.
    """
    value = value[:_LONGEST_JUDGED]
    bits = 0.0
    first = _OTHER
    for one in value:
        second = _PLACE.get(one, _OTHER)
        bits += _BITS[first * _SIZE + second]
        first = second
    bits += _BITS[first * _SIZE + _OTHER]
    digits = sum(map(str.isdigit, value))
    if _HEX.fullmatch(value):
        alphabet = 16
    else:
        letters = [one for one in value if one.isalpha()]
        alphabet = 26 * any(map(str.isupper, letters)) + 26 * any(map(str.islower, letters)) + 10 * bool(digits)
    return (bits + _DIGIT_BITS * digits) / (len(value) + 1) - math.log2(max(alphabet, 2))


_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_RANDOM = 0.9
_WRITTEN = 0.0

_PLACEHOLDER = re2.compile(
    r"(?i)ex[ae]mple|sample|dummy|placeholder|change[_-]?(?:me|it|this)|your[_-]?|(?:my|the|some)[_-]?(?:secret|token"
    r"|key|pass|api)"
    r"|x{4,}|\*{3}|#{3}|\.{3}|…|<[^>]*>|\$\{|\$\(|\{\{|%\(|redacted|masked|insert|replace|fake|todo|f[o0]{2}bar"
    r"|(?:token|secret|key|password|value)[_-]?(?:goes[_-]?)?here|123456|abc123|a1b2c3|abcdef|qwerty|0{7}|deadbeef"
    r"|cafebabe|notreal|invalid"
    r"|^(?:test|foo|bar|none|null|undefined|true|false)(?:$|[_-])"
)
_PATH = re.compile(
    r"(?:[~.]{0,2}/[\w.-]+){2,}|(?:[a-z]:)?\\\\\w|[\w-]+(?:/[\w-]+)+\.[a-z]{1,5}$"
    r"|[a-z][a-z_-]*(?:\.[A-Za-z_][\w-]*)+(?:\(|\[|$)|https?:|\w+://"
)
_STAND_INS = frozenset(
    "password passwd passw0rd secret pass pw token p@ssw0rd p@ssword p@$$w0rd pa$$word postgres guest admin hunter2"
    " root user username test changeme default letmein welcome example mypassword mysecret supersecret s3cr3t"
    " correcthorsebatterystaple".split()
)
_STAND_IN = re.compile(
    r"(?i)(?:my|the|new|old|user|db|super|top|test)?[_-]?(?:password|passwd|passw0rd|p@ssw0rd|p@ssword|secret|pass"
    r"|pwd|test|admin|user|guest|token"
    r"|example|foo|bar|root|string|bearer)[_-]?(?:\d{1,4}|one|two|here)?[!.]{0,2}"
)
_IDENTIFIER = re.compile(r"[a-z]{1,14}(?:[_\-. ][a-z]{1,14})+|[a-z]+(?:[A-Z][a-z]+)+|[A-Z]+(?:_[A-Z]+)+")
_RUN = re.compile(r"[A-Za-z0-9]{8,}")

# SHA-256, first eight bytes, of credentials that are printed in public documentation, samples and emulators, so that
# everybody's copy of them is harmless: AWS's, Google's Firebase samples, Azurite, Cosmos emulator, Stripe's manual.
_PUBLISHED = frozenset(
    int(digest, 16)
    for digest in """
0011cc25eb432071 051d093c4bdedbf2 0b476bdf9acf2123 1a5d44a2dca19669 2037abcaffb2b777 27a9a42931dff7eb
2cafc0970149a84f 37f8f09bdf12c2f2 3a8b61d0f636b007 3f370c9dd8225c63 49f777db995e8260 4c98242dcadc8b29
5071c5c79dab931b 78314b11be2e5815 8731261cb72d8626 a19f89ab3555eac1 a6c814bc555ae62c aa6547439583c3a2
c6ea27c534f993d3 dc0fcf046c61640c df1fea106e47406b e21b597ba6b9cafa e4a5542bb7fd7b67 ea9bb1082cf95663
eb540d2b6ee2a0a4 f2d6ca16515033e5 f921c5b4f965275d
""".split()
)


def published(value: str) -> bool:
    """Whether a value is one of the examples that vendors print."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8]) in _PUBLISHED


def _made_up(value: str) -> bool:
    """Placeholders, masks, and what repeats or counts up."""
    if _PLACEHOLDER.search(value) or len(set(value)) < 6:
        return True
    steps = repeats = 0
    for one, two in pairwise(value.lower()):
        steps += ord(two) - ord(one) == 1
        repeats += one == two
    size = len(value)
    return (
        steps > 0.3 * size
        or repeats > 0.3 * size
        or value in (value + value)[1:-1]
        or (size >= 24 and value[: size // 3] == value[size // 3 : 2 * (size // 3)])
    )


def plausible_secret(value: str, around: Around = NOWHERE) -> bool:
    """For values of a known format: False for placeholders, masks, counted-up characters and words.

    A checksum that holds proves a token. One that fails does not clear it: formats are older than their checksums,
    and a token with a typing error says as much about how it came here.
    """
    if around.label and checksum_holds(around.label, value):
        return True
    if _made_up(value) or around.after.startswith(("...", "…", "***", "####")):
        return False
    if _ASSET.match(around.after):
        return False
    if around.label in _MIXED and not all(any(map(kind, value)) for kind in (str.isdigit, str.islower, str.isupper)):
        return False  # a digest of the same length, or a name
    if _IDENTIFIER.fullmatch(value) or value.lower() in _STAND_INS or (not around.label and _PATH.match(value)):
        return False
    longest = max(_RUN.findall(value), key=len, default="")
    # Among many digits nothing is a word.
    if sum(map(str.isdigit, longest)) < 0.4 * len(longest) and surprise(longest) < _WRITTEN:
        return False
    return not published(value)


_ASSET = re.compile(r"\.(?:png|jpe?g|gif|svg|ico|webp|css|js|map|html?|woff2?|ttf|mp4|xml)\b")
_MIXED = frozenset({"AWS_SECRET_KEY", "VAULT_SERVICE_TOKEN", "BACKBLAZE_KEY"})
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _base62(number: int, size: int) -> str:
    digits = ""
    for _ in range(size):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def checksum_holds(label: str, value: str) -> bool:
    """Whether a token carries the checksum that its issuer documents: GitHub's, npm's, our own: CRC-32 in base 62."""
    if label == "COLONNADE_API_KEY":
        return _base62(zlib.crc32(value[:-6].encode()), 6) == value[-6:]
    if label.startswith(("GITHUB", "NPM")) and "_" in value:
        body = value.rsplit("_", 1)[1]
        return len(body) == 36 and _base62(zlib.crc32(body[:-6].encode()), 6) == body[-6:]
    return False


_NO_SECRET = re2.compile(
    r"(?i)public|publishable|pub_?key|finger_?print|thumb_?print|check_?sum|chksum|hash|digest|sha_?\d|md5|etag"
    r"|integrity|commit|revision|release"
    r"|algorithm|prefix|suffix|header|cache|primary|foreign|sort_?key|partition|keyboard|monkey|turkey|hockey|donkey"
    r"|jockey|csrf|xsrf|nonce|captcha|site_?key|tokeni[sz]e"
    r"|key_?(?:ing|code|word|press|down|up|frame|stone|map|chain|store|ring|space|note|size|length|event|vault)"
    r"|max_tokens|stop_token|(?:eos|bos|pad|unk|sep|cls|mask)_token|page_?token"
    r"|(?:^|[_.-])(?:ids?|name|path|file|dir|ur[li]|host|type|format|length|size|count|limit|max|min|expir\w*|version"
    r"|label|title|field|column|index|locale|class|selector|pattern|regex|cursor"
    r"|endpoint|issuer|audience|scope|alias|arn|email|region|uuid|guid|group|key_?id)$"
)
_NO_SECRET_CAMEL = re.compile(
    r"[a-z](?:Ids?|Name|Path|File|Dir|Ur[li]|Host|Type|Format|Length|Size|Count|Limit|Version|Label|Title|Field"
    r"|Column|Index|Class|Selector|Pattern|Cursor|Endpoint|Issuer|Scope|Arn|Email)$"
)
_STRONG = re2.compile(
    r"(?i)secret|token|passw|passphrase|pwd|api[_. -]?key|apikey|access[_. -]?key|auth|credential|bearer|jwt"
    r"|licen[cs]e|webhook|private[_. -]?key|(?:sign|encrypt|master|account|session|admin|service|license"
    r"|deploy)\w{0,3}[_. -]?key"
)
_EXPRESSION = re.compile(r"[(\[]|\s*\(|\.[a-z]+\(")
_PAIR = re.compile(r"\w=\w")
_JOINTS = re.compile(r"[^A-Za-z0-9]")


_QUOTES = "\"'`()[] \t\r\n\\"
_ASSIGNING = "=:<>|,?-"
_LONGEST_NAME = 60


def _name_before(before: str) -> str:
    """The name that a value is assigned to: `client_secret` of `"client_secret": "`. By hand, since a pattern that
    looks for its end from every place takes ten times as long."""
    text = before.rstrip(_QUOTES).rstrip(_ASSIGNING).rstrip(_QUOTES)
    if text.endswith(" is"):
        text = text[:-3].rstrip(_QUOTES)
    start = len(text)
    least = max(0, start - _LONGEST_NAME)
    while start > least and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
        start -= 1
    name = text[start:]
    if name in ("value", "default"):  # of a pair of attributes, of which the other has the name
        named = _NAMED.findall(before)
        return named[-1] if named else name
    return name


_NAMED = re.compile(r"(?i)\b(?:name|key|variable|id)\b[\"']?\s*[:=]?\s*[\"']?([\w.-]+)")


@lru_cache(maxsize=4_096)
def _no_secret(name: str) -> bool:
    """Whether a name says that what it holds is no secret: a digest, a path, a public key, the id of one."""
    return _NO_SECRET.search(name) is not None or _NO_SECRET_CAMEL.search(name) is not None


@lru_cache(maxsize=4_096)
def _promises(name: str) -> bool:
    return _STRONG.search(name) is not None


_SAMPLE = re.compile(r"(?i)://user(?:name)?:(?:pass(?:word|wd)?|secret|changeme)@")
"""Beside a connection as manuals write it, other values of the same file are samples too."""


def assigned_secret(value: str, around: Around = NOWHERE) -> bool:
    """A random value behind a name that promises one. `label` says when the name of a provider stands before it."""
    if len(value) < 10 or _made_up(value) or around.after.startswith(("...", "…", "***")):
        return False
    if _EXPRESSION.match(around.after) or _PATH.match(value) or _IDENTIFIER.fullmatch(value):
        return False
    if _SAMPLE.search(around.before):
        return False
    name = _name_before(around.before)
    if _no_secret(name):
        return False
    if name.lower() in ("key", "keys") and not around.label and around.before.rstrip(_QUOTES)[-1:] in (":", "="):
        return False  # of a map
    strong = bool(around.label) or _promises(name) or _STRONG.search(around.before) is not None
    if _UUID.fullmatch(value):
        return strong and "redential" not in name and not published(value)
    if value.isdigit() or value.replace(".", "").replace("-", "").isdigit():
        return False
    if _HEX.fullmatch(value):
        strong = strong or (name.isupper() and name.endswith("_KEY"))
        return strong and len(value) >= 16 and entropy(value) > 2.8 and not published(value)
    if len(value) < 16 and not (strong and any(map(str.isdigit, value)) and any(map(str.isalpha, value))):
        return False
    if published(value) or (len(value) < 32 and _PAIR.search(value)):
        return False
    least = _RANDOM if len(value) >= 16 else 1.5
    return surprise(value) >= least or surprise(_JOINTS.sub("", value)) >= least


def plausible_password(value: str, around: Around = NOWHERE) -> bool:
    """Something that a person would choose or a generator make: two kinds of characters, no word, no variable."""
    value = value.rstrip(".,!?:") if "\n" not in value and around.after[:1].isspace() else value
    if len(value) < 6 or len(set(value)) < 5 or _PLACEHOLDER.search(value) or _STAND_IN.fullmatch(value):
        return False
    if value.lower() in _STAND_INS or _IDENTIFIER.fullmatch(value) or _PATH.match(value) or _UUID.fullmatch(value):
        return False
    if _EXPRESSION.match(around.after) or value[0] in "$%{<@&*[(" or value.isalpha() or value.isdigit():
        return False
    if _no_secret(_name_before(around.before)):
        return False
    kinds = (str.islower, str.isupper, str.isdigit, lambda one: not one.isalnum() and one not in "_-.")
    if sum(any(kind(one) for one in value) for kind in kinds) < 2:
        return False
    return any(map(str.isdigit, value)) or any(not one.isalnum() and one not in "_-.:/=" for one in value)


def url_password(value: str, around: Around = NOWHERE) -> bool:
    """The password of `scheme://user:password@host`."""
    if len(value) < 6 or len(set(value)) < 5 or _PLACEHOLDER.search(value) or _STAND_IN.fullmatch(value):
        return False
    user = around.before.rstrip(":").rsplit("/", 1)[-1]
    if value.lower() in _STAND_INS or value == user or value[0] in "$%{<[(" or _IDENTIFIER.fullmatch(value):
        return False
    return not value.isalpha() or surprise(value) >= _RANDOM


def basic_credentials(value: str, around: Around = NOWHERE) -> bool:
    """Base64 of `user:password` (RFC 7617), the password a plausible one; or an opaque random value."""
    if value.startswith("eyJ"):
        return False  # a token by itself; its own check has it
    try:
        decoded = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return plausible_secret(value, around) and surprise(value) >= _RANDOM
    user, colon, password = decoded.partition(":")
    if not colon:
        return False
    return not _PLACEHOLDER.search(decoded) and not _STAND_IN.fullmatch(password) and len(password or user) >= 6


def _unpacked(part: str) -> object:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def jwt(value: str, around: Around = NOWHERE) -> bool:
    """Three parts of which the first is a JSON object naming an algorithm (RFC 7519); not the one of every tutorial."""
    head, payload, *_ = value.split(".")
    try:
        header = _unpacked(head)
    except ValueError:
        return False
    if not isinstance(header, dict) or "alg" not in header or around.after.startswith("..."):
        return False
    try:
        claims = _unpacked(payload)
    except ValueError:
        return True  # encrypted ones have no readable second part
    if not isinstance(claims, dict) or _CLAIMS.isdisjoint(map(str.lower, claims)):
        return False
    return claims.get("sub") != "1234567890" and claims.get("name") != "John Doe"


_CLAIMS = frozenset(
    "sub iss aud exp nbf iat jti sid uid id user userid user_id username login email role roles scope scopes scp azp"
    " name client_id clientid tenant tid oid upn account account_id permissions auth_time session groups".split()
)


def private_key(value: str, around: Around = NOWHERE) -> bool:
    """A key in PEM or PuTTY's form: some line of its body is random. The first often is not: what kind of key it is."""
    body = value.partition("-----END")[0].rpartition("-----")[2]
    lines = re.findall(r"[A-Za-z0-9+/=_-]{20,}", body)
    return any(entropy(line) >= 3.5 and not _PLACEHOLDER.search(line) and not _made_up(line) for line in lines)

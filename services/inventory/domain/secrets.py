"""Credentials that discovery comes upon: recognised, and kept as references only.

Nothing that holds a credential's value leaves this module but its SHA-256 and its last four characters. The prefixes
and lengths are those of the issuers' own formats; what has none is recognised by the name beside it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_FORMATS = (
    ("anthropic", r"sk-ant-(?:api|admin|oat)\d\d-[\w-]{20,}"),
    (
        "openai",
        r"sk-(?:proj|svcacct|admin|None)-[\w-]{20,}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|sk-[A-Za-z0-9]{32,}",
    ),
    ("openrouter", r"sk-or-v1-[0-9a-f]{32,}"),
    ("litellm", r"sk-litellm-[\w-]{16,}"),
    ("huggingface", r"hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}"),
    ("google", r"AIza[\w-]{35}|ya29\.[\w-]{20,}"),
    ("aws", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("perplexity", r"pplx-[A-Za-z0-9]{40,}"),
    ("databricks", r"dapi[a-f0-9]{32}(?:-\d)?"),
    ("groq", r"gsk_[A-Za-z0-9]{40,}"),
    ("xai", r"xai-[A-Za-z0-9]{60,}"),
    ("replicate", r"r8_[A-Za-z0-9]{37}"),
    ("nvidia", r"nvapi-[\w-]{40,}"),
    ("langsmith", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    ("pinecone", r"pcsk_[\w-]{40,}"),
    ("github", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,}"),
    ("gitlab", r"glpat-[\w-]{20,}"),
    ("slack", r"xox[abposr]-[\w-]{10,}|xapp-[\w-]{20,}"),
    ("stripe", r"[sr]k_live_[A-Za-z0-9]{20,}"),
    ("colonnade", r"cln_[\w-]{20,}"),
    ("jwt", r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
)
_KNOWN = re.compile("(?<![A-Za-z0-9])(?:" + "|".join(f"(?P<{name}>{form})" for name, form in _FORMATS) + ")")
# The scheme begins where a word does and is short: else a long run of letters costs its square.
_USERINFO = re.compile(
    r"(?P<before>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://[^\s/@:]*:)(?P<secret>[^\s/@]+)(?=@)", re.IGNORECASE
)
_BESIDE = re.compile(
    r"(?P<before>(?:\b|_)(?:api[_-]?key|apikey|secret(?:[_-]?(?:access)?[_-]?key)?|access[_-]?token|auth[_-]?token|token|"
    r"passw(?:or)?d|pwd|client[_-]?secret|private[_-]?key|signature|sig|subscription[_-]?key|credential)"
    r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?)(?P<secret>[^\s\"',;&<>{}$]{8,})|"
    r"(?P<bearer>\b(?:bearer|basic)\s{1,4})(?P<token>[A-Za-z0-9._~+/=-]{12,})",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\$\{|\$\(|\{\{|^[$<\[*]|^%\w+%$|^(?:your|my|the|an?|some|insert|enter|replace|example|dummy|test)(?:[-_ ]|$)|"
    r"^(?:changeme|xxx+|\.\.\.|none$|null$|true$|false$|env[.:_]|os\.|process\.|secrets?\.|vault[.:]|var\.|file:|op://|"
    r"arn:aws:secretsmanager)",
    re.IGNORECASE,
)
_WORDS = ("key", "secret", "token", "passw", "pwd", "sig", "credential", "bearer", "basic")
"""One of which _BESIDE cannot do without."""
_SHORTEST = 8
"""Characters of the shortest text in which anything is recognised."""
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A credential without its value.

    Attributes:
        issuer: whose format it has; "unknown" where only its name told.
        fingerprint: SHA-256 of the value, hex: equal fingerprints are the same credential.
        last_four: its last four characters; empty when it is too short to give any away.
    """

    issuer: str
    fingerprint: str
    last_four: str

    def __str__(self) -> str:
        return f"[{self.issuer} credential ...{self.last_four} sha256:{self.fingerprint[:12]}]"


def reference(value: str, issuer: str | None = None) -> SecretReference:
    """The reference to a credential of that value; its format says the issuer where none is given."""
    match = _KNOWN.fullmatch(value)
    known = issuer or (match.lastgroup if match else None) or "unknown"
    return SecretReference(
        known, hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest(), value[-4:] if len(value) >= 16 else ""
    )


def is_placeholder(value: str) -> bool:
    """Whether it stands for a credential that is elsewhere: `${OPENAI_API_KEY}`, `<your key>`, `changeme`."""
    return _REFERENCE.search(value) is not None or len(set(value)) < 5


def secrets_in(text: str) -> list[tuple[int, int, SecretReference]]:
    """Credentials within a text as (start, end, reference), in order, none overlapping another.

    Known formats are taken wherever they stand; other values only beside a name such as `password=` or in a URL's
    user part, and not where they are placeholders.
    """
    if len(text) < _SHORTEST:
        return []
    # Most texts hold none: what a form cannot do without is looked for first, at a tenth of the cost of looking for it.
    folded = text.casefold()
    spans = [(*match.span(), reference(match[0], match.lastgroup)) for match in _KNOWN.finditer(text)]
    if "-----begin" in folded:
        spans += [(*match.span(), reference(match[0], "private_key")) for match in _PEM.finditer(text)]
    beside = [(match, "secret") for match in _USERINFO.finditer(text)] if "@" in text else []
    if any(word in folded for word in _WORDS):
        beside += [(match, "secret" if match["secret"] is not None else "token") for match in _BESIDE.finditer(text)]
    spans += [
        (*match.span(group), reference(match[group])) for match, group in beside if not is_placeholder(match[group])
    ]
    spans.sort(key=lambda span: (span[0], -span[1]))
    apart: list[tuple[int, int, SecretReference]] = []
    for span in spans:
        if not apart or span[0] >= apart[-1][1]:
            apart.append(span)
    return apart


def without_secrets(text: str) -> str:
    """The text with each credential in it replaced by its reference."""
    spans = secrets_in(text)
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, end, found in spans:
        parts += (text[at:start], str(found))
        at = end
    return "".join(parts) + text[at:]

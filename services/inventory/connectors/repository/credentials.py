"""Credentials in a repository's files, each as a reference. Values are compared and hashed, and go no further."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from services.inventory.connectors.repository import documents
from services.inventory.connectors.repository.estate import Estate, Place
from services.inventory.connectors.repository.walk import File
from services.inventory.domain.secrets import SecretReference, is_placeholder, reference, secrets_in

_MARKS = tuple(
    (mark, re.compile(re.escape(mark) + rb"[\w.-]{14,}"))
    for mark in (
        *(
            b"sk-",
            b"hf_",
            b"api_org_",
            b"AIza",
            b"ya29.",
            b"AKIA",
            b"ASIA",
            b"ABIA",
            b"ACCA",
            b"pplx-",
            b"dapi",
            b"gsk_",
        ),
        *(b"xai-", b"r8_", b"nvapi-", b"lsv2_", b"pcsk_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        *(b"glpat-", b"xoxa-", b"xoxb-", b"xoxp-", b"xoxo-", b"xoxs-", b"xoxr-", b"xapp-", b"k_live_", b"cln_", b"eyJ"),
    )
)


def may_hold(data: bytes) -> bool:
    """Whether a file can hold a credential of a known format at all. A search for a literal costs a fraction of one
    for alternatives, and of 10,000 files nearly all are asked this and nothing else."""
    return b"PRIVATE KEY-----" in data or any(mark in data and form.search(data) for mark, form in _MARKS)


_NAME = re.compile(
    r"api[_-]?key|apikey|secret|token|passw(?:or)?d|\bpwd\b|private[_-]?key|access[_-]?key|subscription[_-]?key|"
    r"credential|authorization|x-api-key|bearer|connection[_-]?string|\bpat\b|_pat$|_key$|^key$",
    re.IGNORECASE,
)
_ANY_KEY = re.compile(r"(?i)(?!.*(?:api|secret|access|private|auth|subscription|account|service)).*key")
_NO_SECRET = re.compile(
    r"max_?|num_|count|limit|tokens|tokenizer|token_?(?:type|url|uri|endpoint|ids?|budget|limit|env)|secret_?(?:name|ref|arn|id$|"
    r"key_?ref)|secretName|public|_url$|_uri$|_file$|_path$|_name$|_env$|env_?var|key_?(?:name|vault|type|id$)|key_env",
    re.IGNORECASE,
)
_ISSUERS: tuple[tuple[str, str], ...] = (
    ("azure_openai", "azure"),
    ("openrouter", "openrouter"),
    ("openai", "openai"),
    ("anthropic", "anthropic"),
    ("anthropic", "claude"),
    ("google", "gemini"),
    ("google", "google"),
    ("huggingface", "hugging"),
    ("huggingface", "hf_"),
    ("mistral", "mistral"),
    ("cohere", "cohere"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("together", "together"),
    ("pinecone", "pinecone"),
    ("qdrant", "qdrant"),
    ("weaviate", "weaviate"),
    ("langsmith", "langsmith"),
    ("langfuse", "langfuse"),
    ("aws", "aws_"),
    ("github", "github"),
    ("gitlab", "gitlab"),
    ("slack", "slack"),
    ("brave", "brave"),
    ("tavily", "tavily"),
)
_SCHEME = re.compile(r"^(?:Bearer|Basic|Token|ApiKey|Key)\s+", re.IGNORECASE)
_ASSIGNED = re.compile(r"^\s*(?:export\s+|set\s+|ENV\s+|ARG\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s*(.*?)\s*$")
_EXAMPLE = re.compile(
    r"example|0{8}|12345678|abcdefgh|deadbeef|your[-_]|[-_]here|placeholder|replace[-_]?me|xxxx|\.\.\.", re.IGNORECASE
)
_CODE = re.compile(r"[(){}\[\]<>]|^\S*\.\w+\(|\s")
_TOKEN_PATH = re.compile(r"/(?:s|k|key|token|t)/([A-Za-z0-9_=-]{16,})(?=/|$)")
_QUERY = re.compile(r"[?&]([\w.-]*(?:key|token|secret|sig|password|auth)[\w.-]*)=([^&#\s\"']{8,})", re.IGNORECASE)


def issuer_of(name: str) -> str | None:
    """Whose credential a variable's name tells."""
    lowered = name.lower()
    return next((issuer for issuer, part in _ISSUERS if part in lowered), None)


def tells_secret(name: str) -> bool:
    """Whether what stands under that name is a credential by the name."""
    return _NAME.search(name) is not None and _NO_SECRET.search(name) is None


def secret_of(name: str, value: str, *, strict: bool = False) -> SecretReference | None:
    """The credential that a named value is or holds; None for placeholders, references and what is none.

    A value of a known format is one under any name; another only where its name says so and, if `strict`, it also looks
    random: in files that are not made for credentials, `token: stop-2014` is a word.
    """
    value = value.strip().strip("\"'")
    if not value or len(value) > 10_000 or is_placeholder(value):
        return None
    telling = tells_secret(name) and not (strict and _ANY_KEY.fullmatch(name))
    if strict and not telling and "://" not in value:
        return None  # what has a known format is found in the text as a whole
    inner = secrets_in(value)
    known = [one for _, _, one in inner if one.issuer != "unknown"]
    if known:
        return None if _is_example(value) else known[0]
    other = inner[0][2] if inner and (not strict or "://" in value) and not _is_example(value) else None
    bare = _SCHEME.sub("", value)
    if not telling or "://" in bare or len(bare) < 8 or is_placeholder(bare) or _is_example(bare) or _CODE.search(bare):
        return other
    if strict and not _looks_random(bare):
        return other
    return reference(bare, issuer_of(name))


def _looks_random(value: str) -> bool:
    """Whether it has a long run of digits among letters, and repeats few of them: 3.5 bits a character."""
    runs = [run for run in re.findall(r"[A-Za-z0-9+/]{12,}", value) if re.search(r"[0-9]", run)]
    if len(value) < 20 or not any(re.search(r"[A-Za-z]", run) for run in runs):
        return False
    counts = [value.count(character) for character in set(value)]
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts) >= 3.5


def secrets_of_url(url: str) -> list[tuple[str, SecretReference]]:
    """Credentials in an address: its user part, its query, and the path where services put a token."""
    made = [("url", one) for _, _, one in secrets_in(url) if one.issuer != "unknown"]
    user = re.search(r"://[^/@\s]*:([^/@\s]{4,})@", url)
    if user and not is_placeholder(user[1]):
        made.append(("password", reference(user[1])))
    queried = [match for match in _QUERY.finditer(url) if not is_placeholder(match[2])]
    made += [(match[1], reference(match[2], issuer_of(match[1]))) for match in queried]
    tokens = [match[1] for match in _TOKEN_PATH.finditer(url) if re.search(r"\d", match[1])]
    made += [("path", reference(token)) for token in tokens if not is_placeholder(token)]
    unique: dict[str, tuple[str, SecretReference]] = {}
    for name, one in made:
        unique.setdefault(one.fingerprint, (name, one))
    return list(unique.values())


def bare_url(url: str) -> str:
    """The address with no credential in it."""
    return _TOKEN_PATH.sub(
        lambda match: match[0].replace(match[1], "-") if re.search(r"\d", match[1]) else match[0],
        re.sub(r"://[^/@\s]*@", "://", re.split(r"[?#]", url, maxsplit=1)[0]),
    )


def _is_example(value: str) -> bool:
    return _EXAMPLE.search(value) is not None and len(value) < 60


def in_text(text: str) -> Iterator[tuple[int, SecretReference]]:
    """(line, reference) of every credential of a known format."""
    for start, end, one in secrets_in(text):
        value = text[start:end]
        if one.issuer != "unknown" and not is_placeholder(value) and "EXAMPLE" not in value:
            yield text.count("\n", 0, start) + 1, one


def in_assignments(text: str) -> Iterator[tuple[int, str, SecretReference]]:
    """(line, name, reference) of lines `NAME=value`, as environment files and Dockerfiles have them."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) < 10_000 and not line.lstrip().startswith(("#", ";", "//")) and (match := _ASSIGNED.match(line)):
            value = match[2]
            quoted = value.startswith(('"', "'"))
            value = value[1:].partition(value[0])[0] if quoted else value.partition(" #")[0]
            if (one := secret_of(match[1], value)) is not None:
                yield number, match[1], one


def in_document(document: Any, *, strict: bool = False) -> Iterator[tuple[int, str, SecretReference]]:
    """(line, name, reference) of credentials under their names in JSON, YAML and TOML; `strict` as in secret_of."""
    for keys, value, line in documents.strings(document):
        name = next((key for key in reversed(keys) if not key.isdigit()), "")
        if (one := secret_of(name, value, strict=strict)) is not None:
            yield line, name, one


def read(estate: Estate, file: File, data: bytes, text: str, document: Any) -> None:
    """Every credential of one file becomes an entry that the repository exposes.

    In code only known formats are taken: a name such as `token` stands beside too much that is none there.
    """
    seen: set[tuple[str, int]] = set()
    taken: set[str] = set()

    def take(line: int, name: str, one: SecretReference) -> None:
        if (one.fingerprint, line) not in seen and len(seen) < 1_000:
            seen.add((one.fingerprint, line))
            taken.add(one.fingerprint)
            estate.credential(one, name, Place(file, line))

    if is_environment(file):
        for line, name, one in in_assignments(text):
            take(line, name, one)
    if isinstance(document, documents.Table | documents.Row) and not _is_lock(file) and file.suffix != ".ipynb":
        for line, name, one in in_document(document, strict=True):
            take(line, name, one)
    if may_hold(data):
        for line, one in in_text(text):
            if one.fingerprint not in taken:
                take(line, "", one)


def is_environment(file: File) -> bool:
    """Files of lines `NAME=value`."""
    lowered = file.name.lower()
    return (
        lowered.startswith((".env", "dockerfile."))
        or lowered.endswith((".env", ".properties", ".ini", ".cfg", ".tfvars", ".envrc"))
        or lowered in {"dockerfile", "credentials", ".npmrc", ".pypirc", ".netrc"}
    )


def _is_lock(file: File) -> bool:
    return file.name.lower() in {"package-lock.json", "pnpm-lock.yaml", "uv.lock", "poetry.lock", "cargo.lock"}

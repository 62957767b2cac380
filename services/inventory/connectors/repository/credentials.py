"""Credentials in a repository's files, each as a reference. Values are compared and hashed, and go no further."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from services.inventory.connectors.repository import documents
from services.inventory.connectors.repository.estate import Estate, Place
from services.inventory.connectors.repository.walk import File
from services.inventory.domain.secrets import SecretReference, is_placeholder, reference, secrets_in

PREFIXES = re.compile(
    rb"sk-|hf_|api_org_|AIza|ya29\.|AKIA|ASIA|ABIA|ACCA|pplx-|dapi[a-f0-9]|gsk_|xai-|r8_|nvapi-|lsv2_|pcsk_|gh[pousr]_|"
    rb"github_pat_|glpat-|xox[abposr]-|xapp-|[sr]k_live_|cln_|eyJ|PRIVATE KEY-----"
)
"""Whether a file can hold a credential of a known format at all: one pass over its bytes."""

_NAME = re.compile(
    r"api[_-]?key|apikey|secret|token|passw(?:or)?d|\bpwd\b|private[_-]?key|access[_-]?key|subscription[_-]?key|"
    r"credential|authorization|x-api-key|bearer|connection[_-]?string|\bpat\b|_pat$|_key$|^key$",
    re.IGNORECASE,
)
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


def secret_of(name: str, value: str) -> SecretReference | None:
    """The credential that a named value is or holds; None for placeholders, references and what is none.

    A value of a known format is one under any name; another only where its name says so.
    """
    value = value.strip().strip("\"'")
    if not value or len(value) > 10_000 or is_placeholder(value):
        return None
    inner = secrets_in(value)
    known = [one for _, _, one in inner if one.issuer != "unknown"]
    if known:
        return None if _is_example(value) else known[0]
    if not tells_secret(name):
        return inner[0][2] if inner else None
    bare = _SCHEME.sub("", value)
    if len(bare) < 8 or is_placeholder(bare) or _is_example(bare) or _CODE.search(bare):
        return inner[0][2] if inner and not _is_example(value) else None
    if "://" in bare:
        return inner[0][2] if inner else None
    return reference(bare, issuer_of(name))


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


def in_document(document: Any) -> Iterator[tuple[int, str, SecretReference]]:
    """(line, name, reference) of credentials under their names in JSON, YAML and TOML."""
    for keys, value, line in documents.strings(document):
        name = next((key for key in reversed(keys) if not key.isdigit()), "")
        if (one := secret_of(name, value)) is not None:
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
        for line, name, one in in_document(document):
            take(line, name, one)
    if PREFIXES.search(data):
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

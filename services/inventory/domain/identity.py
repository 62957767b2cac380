"""Names by which two sources know the same thing.

An identity is `<kind>:<value>`, normalised so that the spellings of one thing are equal. Two entries that share one are
one asset, so an identity names the thing itself and never what it merely uses: a deployment's identity is its address,
not its model.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "grpc": 80, "postgresql": 5432}
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resource(platform_id: str) -> str:
    """A cloud's own name of a resource: an ARN, an Azure resource id (without regard to letter case), a Google name."""
    return "id:" + (platform_id.lower() if platform_id.lower().startswith("/subscriptions/") else platform_id)


def endpoint(url: str) -> str | None:
    """An address that is called: scheme and host in lower case, no default port, user, query, fragment or last slash.

    None for what has no host, or one that means another thing on each machine (localhost and loopback addresses).
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None
    if not host or host == "localhost" or host.startswith("127.") or host in {"::1", "0.0.0.0"}:  # noqa: S104
        return None
    shown = f"[{host}]" if ":" in host else host
    if port is not None and _DEFAULT_PORTS.get(parts.scheme.lower()) != port:
        shown += f":{port}"
    # http and https of one address are one endpoint: which of them a caller writes says nothing of what answers.
    scheme = {"http": "web", "https": "web"}.get(parts.scheme.lower(), parts.scheme.lower())
    return f"url:{scheme}://{shown}{parts.path.rstrip('/')}"


def huggingface(repository: str, revision: str | None = None) -> str:
    """A repository of the Hugging Face hub; with a commit only where it is a whole one."""
    name = f"hf:{repository.strip('/')}"
    return f"{name}@{revision}" if revision and _COMMIT.fullmatch(revision) else name


def hosted_model(provider: str, model: str) -> str:
    """A model as a provider sells it, e.g. ("openai", "gpt-4o"): what code, gateways and traffic name alike."""
    return f"model:{provider.lower()}/{model.lower()}"


def dataset(name: str) -> str:
    """A dataset of the Hugging Face hub or a storage address."""
    return f"dataset:{name}" if "://" in name else f"dataset:hf:{name.strip('/')}"


def content(sha256: str) -> str:
    """One file's content by its SHA-256, for things that are one file (a GGUF model)."""
    return f"sha256:{sha256.lower()}"


def image(reference: str) -> str:
    """A container image by repository and digest, else by repository and tag."""
    return f"image:{reference}"


def package(ecosystem: str, name: str) -> str:
    """A package of npm, PyPI or another registry, such as an MCP server that is started from one."""
    folded = re.sub(r"[-_.]+", "-", name).lower() if ecosystem == "pypi" else name.lower()
    return f"pkg:{ecosystem}/{folded}"


def credential(fingerprint: str) -> str:
    """A credential by the SHA-256 of its value."""
    return f"key:{fingerprint}"


def agent(name: str, origin: str) -> str:
    """An agent by its name within its origin (a repository, an account, a project)."""
    return f"agent:{origin}/{name}"

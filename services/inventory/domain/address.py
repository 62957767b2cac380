"""What an asset's `source_url` and `api_endpoint` may hold: addresses that are safe to show as a link.

Whoever shows an asset makes links of these, and a browser that follows `javascript:` or `data:` runs what it says in
that page. So schemes are named that may be used, not those that may not. Without a scheme it is a reference within the
organisation: a repository's id, a path, a host with its port.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEMES = frozenset(
    (
        *("http", "https", "ws", "wss", "grpc", "grpcs"),
        *("s3", "gs", "az", "abfs", "abfss", "wasb", "wasbs", "hdfs", "dbfs", "file"),  # storage of weights and data
        *("hf", "oci", "docker", "ollama", "models", "runs", "mlflow-artifacts", "azureml"),  # registries
        *("git", "git+https", "git+ssh", "ssh"),
        # Names of things: AWS resources, package URLs, references to secrets, what runs in a cluster.
        *("arn", "pkg", "urn", "vault", "k8s"),
        *("postgresql", "postgres", "redis", "rediss", "mongodb", "mongodb+srv"),  # vector databases
    )
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# `localhost:80/` is also how a scheme is written; one with a dot in it no browser knows.
_HOST_AND_PORT = re.compile(r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+):[0-9]{1,5}(?:[/?#]|$)")


def address(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: it has control or invisible characters, a scheme that is not one of SCHEMES, or no host after http.
    """
    if not text.isprintable():
        raise ValueError("it holds a control character or one that cannot be seen")
    scheme = _SCHEME.match(text)
    if scheme is None or _HOST_AND_PORT.match(text) is not None:
        return text
    name = scheme[1].lower()
    if name not in SCHEMES:
        raise ValueError(f"an address of the scheme {name[:40]!r} is not taken; https is, or where artefacts are kept")
    if name in ("http", "https") and not urlsplit(text).hostname:
        raise ValueError("it names no host")
    return text

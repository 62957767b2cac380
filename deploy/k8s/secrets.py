"""Prints the Secrets the manifests refer to: `python -m deploy.k8s.secrets ... | kubectl apply -n <namespace> -f -`.

Keys and passwords are made anew at each call, so call it once a cluster and keep them where your secrets are kept. The
databases and their roles, and NATS' users, are made with your own tools from what is printed.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any

import nkeys
import typer
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deploy.local.environment import CEILINGS, MODULES

app = typer.Typer(add_completion=False)


def manifests(postgres: str, nats: str) -> list[dict[str, Any]]:
    """A Secret for each part's settings, its owner role and its key files.

    Args:
        postgres: host:port of the server that holds the databases, one a part, roles <part>_app and <part>_owner.
        nats: host:port of NATS.
    """
    keys = {name: Ed25519PrivateKey.generate() for name in MODULES}
    trust = {
        issuer: {
            "public_key": keys[issuer]
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode(),
            "scopes": list(scopes),
        }
        for issuer, scopes in CEILINGS.items()
    }
    made = []
    for name in MODULES:
        prefix = name.upper()

        def database(role: str, name: str = name) -> str:
            return f"postgresql://{name}_{role}:{secrets.token_urlsafe(24)}@{postgres}/{name}"

        settings = {
            "DATABASE_URL": database("app"),
            "NATS_URL": f"nats://{nats}",
            "NATS_SEED_FILE": "/keys/nats.nk",
            "TRUST_FILE": "/keys/trust.json",
            "SIGNING_KEY_FILE": "/keys/signing.pem",
            "CURSOR_SECRET": secrets.token_urlsafe(32),
            "SERVICE_URLS": json.dumps({other: f"http://{other}" for other in MODULES if other != name}),
        }
        if name == "gateway":
            settings["KEY_PEPPER"] = secrets.token_urlsafe(32)
        files = {
            "trust.json": json.dumps(trust),
            "signing.pem": keys[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "nats.nk": nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode(),
        }
        made.append(_secret(name, {f"{prefix}_{key}": value for key, value in settings.items()}))
        made.append(_secret(f"{name}-owner", {f"{prefix}_MIGRATION_DATABASE_URL": database("owner")}))
        made.append(_secret(f"{name}-keys", files))
    return made


def _secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": data}


@app.command()
def main(
    postgres: Annotated[str, typer.Option(help="host:port of PostgreSQL, as the pods reach it.")],
    nats: Annotated[str, typer.Option(help="host:port of NATS, as the pods reach it.")],
) -> None:
    """Print fresh Secrets for every part, as YAML."""
    typer.echo(yaml.safe_dump_all(manifests(postgres, nats), sort_keys=False, width=10_000))


if __name__ == "__main__":
    app()

"""A database and two roles a service, on the local server or on one of your own.

`<name>_owner` owns the database and runs the migrations. `<name>_app` runs the service: it reads and writes rows of
the tables that the owner makes, and has no way to change a schema or to reach another service's database.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from deploy.local.credentials import Credentials
from deploy.local.process import StartError

_LAYOUT = "1"  # raise it when the statements below change, so that homes of before are brought to them
_LOCK = 0x636F6C6F6E  # any number that the stacks of one server agree on


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """How one service reaches its database."""

    name: str
    runtime_url: str
    migration_url: str


def address(server_url: str, database: str, user: str, password: str) -> str:
    """`server_url` with another database and login; host, port and options stay."""
    parts = urlsplit(server_url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(("postgresql", f"{login}@{host}", f"/{database}", parts.query, ""))


def service_database(server_url: str, name: str, credentials: Credentials) -> ServiceDatabase:
    """The URLs of one service's database; makes its passwords if there are none yet."""
    return ServiceDatabase(
        name=name,
        runtime_url=address(server_url, name, f"{name}_app", credentials.text(f"{name}_app.password")),
        migration_url=address(server_url, name, f"{name}_owner", credentials.text(f"{name}_owner.password")),
    )


async def create_databases(server_url: str, names: Sequence[str], credentials: Credentials) -> list[str]:
    """Make the databases and roles that are missing or not as they should be.

    Args:
        server_url: of a superuser, or of a role that may create databases and roles.

    Returns:
        The names that had to be made; a finished server costs one query.

    Raises:
        StartError: a database of that name belongs to somebody else.
    """
    admin = await _connect(server_url)
    try:
        await admin.execute("SELECT pg_advisory_lock($1)", _LOCK)
        rows = await admin.fetch("SELECT datname, shobj_description(oid, 'pg_database') AS mark FROM pg_database")
        marks = {row["datname"]: row["mark"] for row in rows}
        missing = [name for name in names if marks.get(name) != _mark(name, credentials)]
        for name in missing:
            await _create(admin, name, credentials, exists=name in marks)
        await asyncio.gather(*(_grant(server_url, name) for name in missing))
        for name in missing:  # last, so that an interrupted start does it again
            await admin.execute(f"COMMENT ON DATABASE {name} IS '{_mark(name, credentials)}'")
        return missing
    finally:
        await admin.close()


async def _connect(url: str) -> asyncpg.Connection[Any]:
    try:
        return await asyncpg.connect(url, timeout=10, server_settings={"application_name": "colonnade-stack"})
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        parts = urlsplit(url)
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        raise StartError(f"PostgreSQL at {where} does not let us in: {error or type(error).__name__}") from error


async def _create(admin: asyncpg.Connection[Any], name: str, credentials: Credentials, *, exists: bool) -> None:
    # Names are ours and passwords URL-safe text, so that they may stand in statements that take no parameters.
    for role in (f"{name}_owner", f"{name}_app"):
        known = await admin.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role)
        verb = "ALTER" if known else "CREATE"
        await admin.execute(f"{verb} ROLE {role} LOGIN PASSWORD '{credentials.text(f'{role}.password')}'")
    if not await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        # Since PostgreSQL 16 making a role gives the right to grant it, not to act for it.
        await admin.execute(f"GRANT {name}_owner TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")
    if not exists:
        await admin.execute(
            f"CREATE DATABASE {name} OWNER {name}_owner TEMPLATE template0 ENCODING 'UTF8' "
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
        )
        return
    owner = await admin.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", name)
    if owner != f"{name}_owner":
        raise StartError(f"the server already has a database {name!r}, which belongs to {owner!r} and is not ours")


async def _grant(server_url: str, name: str) -> None:
    parts = urlsplit(server_url)
    connection = await _connect(urlunsplit(parts._replace(path=f"/{name}")))
    owner, app = f"{name}_owner", f"{name}_app"
    try:
        await connection.execute(
            f"""
            SET ROLE {owner};
            REVOKE ALL ON DATABASE {name} FROM PUBLIC;
            GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {app};
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            GRANT USAGE ON SCHEMA public TO {app};
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
                GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app};
            """
        )
    finally:
        await connection.close()


def _mark(name: str, credentials: Credentials) -> str:
    """What the database's comment says when it is as it should be, with these passwords (256 random bits each)."""
    secrets = "".join(credentials.text(f"{name}_{role}.password") for role in ("owner", "app"))
    return f"colonnade layout {_LAYOUT} {hashlib.sha256(secrets.encode()).hexdigest()[:16]}"

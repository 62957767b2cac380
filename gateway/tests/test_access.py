"""Keys and revocations: made, shown once, refused within a second everywhere, and written down."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from deploy.local.ports import free_port
from gateway import keys, store
from gateway.domain import ApiKey
from gateway.main import SERVICE
from gateway.tests.conftest import Gateway, Reply, Service, Stand
from shared import audit, migrate
from shared.audit import audit_entry
from shared.errors import Unavailable
from shared.testing import TestServer, eventually
from shared.tokens import Caller, Signer

MISSING = keys.generate().plaintext


async def made(gateway: Gateway, admin: str, **body: Any) -> dict[str, Any]:
    reply = await gateway.call("POST", "/v1/access/keys", admin, json={"name": "ci", "roles": ["viewer"]} | body)
    assert reply.status == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_the_tables_are_those_of_the_migrations(postgres: TestServer) -> None:
    url = await postgres.database("gateway", SERVICE.directory / "migrations")
    await migrate.check(SERVICE.directory / "migrations", url)
    await postgres.drop(url)


async def test_a_key_is_shown_once_works_and_is_nowhere_in_the_database(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    key = await made(gateway, admin, name="pipeline", roles=["viewer", "ingest"], teams=["payments"])
    assert (await gateway.get("/v1/assets", key["key"])).status == 200
    shown = await gateway.get(f"/v1/access/keys/{key['id']}", admin)
    assert key["key"] not in shown.text
    assert shown.json()["teams"] == ["payments"]
    assert shown.json()["status"] == "active"
    secret = key["key"].split("_")[2]
    async with gateway.runtime.db.read() as tx:
        tables = await tx.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables.all():
            assert not await tx.scalar(
                sa.text(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE :it'), {"it": f"%{secret[:20]}%"}
            ), table


async def test_a_repeated_request_makes_one_key_and_does_not_show_it_again(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    replies = [
        await gateway.call(
            "POST",
            "/v1/access/keys",
            admin,
            json={"name": "once", "roles": ["viewer"]},
            headers={"Idempotency-Key": "make-it"},
        )
        for _ in range(2)
    ]
    first, again = (reply.json() for reply in replies)
    assert first["id"] == again["id"]
    assert first["key"].startswith("cln_")
    assert again["key"] is None
    assert replies[1].headers["Idempotent-Replayed"] == "true"
    async with gateway.runtime.db.read() as tx:
        stored = (await tx.execute(sa.text("SELECT body FROM idempotency"))).scalar_one()
    assert first["key"].encode() not in bytes(stored)


async def test_a_revoked_key_is_refused_by_every_replica_within_a_second(stand: Stand) -> None:
    one, other = await stand.gateway(), await stand.gateway()
    admin = await one.key("admin")
    key = await made(one, admin)
    for replica in (one, other):
        assert (await replica.get("/v1/assets", key["key"])).status == 200
    assert (await one.call("DELETE", f"/v1/access/keys/{key['id']}", admin)).status == 204
    started = time.monotonic()
    for replica in (one, other):
        await eventually(lambda replica=replica: refused(replica, key["key"], 401))
    assert time.monotonic() - started < 1.5
    assert (await one.call("DELETE", f"/v1/access/keys/{key['id']}", admin)).status == 204
    assert (await one.get(f"/v1/access/keys/{key['id']}", admin)).json()["status"] == "revoked"


async def refused(gateway: Gateway, key: str, status: int, **headers: str) -> bool:
    return (await gateway.get("/v1/assets", key, headers=headers)).status == status


async def test_a_missed_notification_costs_a_second_at_most(stand: Stand) -> None:
    gateway = await stand.gateway()
    key = await gateway.key("viewer")
    assert (await gateway.get("/v1/assets", key)).status == 200
    async with gateway.runtime.db.begin() as tx:  # as end_key does, but without a word to anyone
        await tx.execute(store.access_state.update().values(version=store.access_state.c.version + 1))
        version = await store.version(tx)
        changed = {"revoked_at": sa.func.now(), "version": version}
        await tx.execute(store.api_key.update().where(store.api_key.c.id == key.split("_")[1]).values(**changed))
    await eventually(lambda: refused(gateway, key, 401), 2.0)


async def test_an_expired_key_is_refused_on_the_second(gateway: Gateway) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=3)
    key = await gateway.key("viewer", expires_at=ends_at)
    assert (await gateway.get("/v1/assets", key)).status == 200
    await asyncio.sleep((ends_at - datetime.now(UTC)).total_seconds() + 0.01)
    assert (await gateway.get("/v1/assets", key)).status == 401


async def test_rotation_gives_the_same_rights_and_lets_the_old_key_overlap(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    old = await made(gateway, admin, roles=["engineer"], scopes=["inventory:read"], teams=["a"])
    path = f"/v1/access/keys/{old['id']}/rotate"
    new = (await gateway.call("POST", path, admin, json={"overlap_seconds": 6})).json()
    kept = ("name", "subject", "roles", "scopes", "teams", "limit")
    assert {field: new[field] for field in kept} == {field: old[field] for field in kept}
    assert new["rotated_from"] == old["id"]
    assert (await gateway.get("/v1/assets", new["key"])).status == 200
    assert (await gateway.get("/v1/assets", old["key"])).status == 200
    assert (await gateway.call("POST", path, admin, json={})).status == 409
    await eventually(lambda: refused(gateway, old["key"], 401), 10)
    assert (await gateway.get("/v1/assets", new["key"])).status == 200


BAD_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"name": "x" * 301}, "/name"),
    ({"name": "\u200b"}, "/name"),
    ({"teams": ["a", "\u2060"]}, "/teams/1"),
    ({"roles": []}, "/roles"),
    ({"roles": ["root"]}, "/roles/0"),
    ({"roles": ["service"]}, "/roles/0"),
    ({"scopes": ["inventory:write"]}, "/scopes"),
    ({"scopes": ["nothing:such"]}, "/scopes"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"expires_at": "2020-01-01T00:00:00"}, "/expires_at"),
    ({"expires_at": "2999-01-01T00:00:00Z"}, "/expires_at"),
    ({"limit": {"requests": 0}}, "/limit/requests"),
    ({"limit": {"requests": 5, "window_seconds": 0}}, "/limit/window_seconds"),
    ({"key": "cln_mine"}, "/key"),
    ({"id": "mine"}, "/id"),
    ({"teams": [""]}, "/teams/0"),
]


async def test_a_key_that_makes_no_sense_is_refused_by_field_and_not_made(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    for body, field in BAD_KEYS:
        asked = {"name": "ci", "roles": ["viewer"]} | body
        reply = await gateway.call("POST", "/v1/access/keys", admin, json=asked)
        assert reply.status == 422, (body, reply.text)
        assert field in [error["field"] for error in reply.json()["errors"]], (body, reply.text)
    raw = [b'{"name":"a","name":"b","roles":["viewer"]}', b'{"name":"\\ud800","roles":["viewer"]}', b"[" * 100, b"NaN"]
    for bytes_ in [*raw, b'{"name":"a\\u0000b","roles":["viewer"]}', b'{"name":NaN,"roles":["viewer"]}', b""]:
        headers = {"Content-Type": "application/json"}
        reply = await gateway.call("POST", "/v1/access/keys", admin, data=bytes_, headers=headers)
        assert 400 <= reply.status < 500, (bytes_, reply.text)
    assert len((await gateway.get("/v1/access/keys", admin)).json()["items"]) == 1


async def test_nobody_hands_out_or_sees_more_than_they_hold(gateway: Gateway) -> None:
    everywhere = await gateway.key("viewer")
    bound = await gateway.key("admin", teams=["a"])
    for teams in (None, ["b"], ["a", "b"]):
        body = {"name": "wide", "roles": ["viewer"], "teams": teams}
        assert (await gateway.call("POST", "/v1/access/keys", bound, json=body)).status == 403
    mine = await made(gateway, bound, teams=["a"])
    listed = (await gateway.get("/v1/access/keys", bound)).json()["items"]
    assert {key["id"] for key in listed} == {mine["id"], bound.split("_")[1]}
    foreign = everywhere.split("_")[1]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        sent: dict[str, Any] = {"json": {}} if method == "POST" else {}
        assert (await gateway.call(method, f"/v1/access/keys/{foreign}{path}", bound, **sent)).status == 404
    assert (await gateway.get("/v1/assets", everywhere)).status == 200
    assert (await gateway.get("/v1/access/audit", bound)).json()["items"] == []
    body = {"kind": "subject", "value": f"key:{foreign}", "reason": "mischief"}
    assert (await gateway.call("POST", "/v1/access/revocations", bound, json=body)).status == 403


ROUTES = [
    ("POST", "/v1/access/keys", "access:write"),
    ("GET", "/v1/access/keys", "access:read"),
    ("GET", "/v1/access/keys/abc", "access:read"),
    ("DELETE", "/v1/access/keys/abc", "access:write"),
    ("POST", "/v1/access/keys/abc/rotate", "access:write"),
    ("GET", "/v1/access/audit", "access:read"),
    ("POST", "/v1/access/revocations", "access:respond"),
    ("GET", "/v1/access/revocations", "access:respond"),
    ("DELETE", "/v1/access/revocations/rev_000000000000000000000000", "access:respond"),
]


async def test_every_route_wants_its_scope(gateway: Gateway) -> None:
    viewer, responder = await gateway.key("viewer"), await gateway.key("responder")
    for method, path, scope in ROUTES:
        assert (await gateway.call(method, path)).status == 401, path
        refusal = await gateway.call(method, path, viewer)
        assert (refusal.status, refusal.json()["scope"]) == (403, scope), path
        allowed = scope == "access:respond"
        assert ((await gateway.call(method, path, responder)).status == 403) is not allowed, path
    described = gateway.server.own.openapi()["paths"]
    operations = {(method.upper(), path) for path, item in described.items() for method in item}
    assert len(operations) == len(ROUTES) + 1  # and /me


async def test_anyone_known_may_ask_who_they_are(gateway: Gateway) -> None:
    key = await gateway.key("ingest", teams=["b", "a"])
    me = (await gateway.get("/v1/access/me", key, headers={"Colonnade-Session": "s-1"})).json()
    assert me == {
        "subject": f"key:{key.split('_')[1]}",
        "kind": "api_key",
        "roles": ["ingest"],
        "scopes": ["detection:inspect", "telemetry:write"],
        "teams": ["a", "b"],
        "session_id": "s-1",
    }
    assert (await gateway.get("/v1/access/me")).status == 401


async def revoke(gateway: Gateway, admin: str, kind: str, value: str, **more: Any) -> Reply:
    body = {"kind": kind, "value": value, "reason": "incident 7", **more}
    return await gateway.call("POST", "/v1/access/revocations", admin, json=body)


async def test_a_revoked_session_subject_or_key_is_refused_everywhere_within_a_second(stand: Stand) -> None:
    one, other = await stand.gateway(), await stand.gateway()
    responder = await one.key("responder")
    key = await one.key("viewer")
    key_id = key.split("_")[1]
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("session", "chat-17", {"Colonnade-Session": "chat-17"}),
        ("subject", f"key:{key_id}", {}),
        ("key", key_id, {}),
    ]
    for kind, value, headers in cases:
        for replica in (one, other):
            assert not await refused(replica, key, 403, **headers)
        reply = await revoke(one, responder, kind, value)
        assert reply.status == 201, reply.text
        started = time.monotonic()
        for replica in (one, other):
            await eventually(lambda replica=replica, headers=headers: refused(replica, key, 403, **headers))
        assert time.monotonic() - started < 1.5
        if kind == "session":
            assert not await refused(other, key, 403, **{"Colonnade-Session": "chat-18"})
            assert not await refused(other, key, 403)
        problem = (await other.get("/v1/assets", key, headers=headers)).json()
        assert problem["type"] == "urn:colonnade:problem:revoked"
        listed = (await one.get(f"/v1/access/revocations?kind={kind}", responder)).json()["items"]
        assert [(found["kind"], found["value"]) for found in listed] == [(kind, value)]
        path = f"/v1/access/revocations/{reply.json()['id']}"
        assert (await one.call("DELETE", path, responder)).status == 204
        assert (await one.call("DELETE", path, responder)).status == 404
        for replica in (one, other):
            await eventually(lambda replica=replica, headers=headers: passes(replica, key, **headers))


async def passes(gateway: Gateway, key: str, **headers: str) -> bool:
    return not await refused(gateway, key, 403, **headers)


async def test_a_session_revoked_for_one_subject_is_refused_to_that_subject_only(stand: Stand) -> None:
    one, other = await stand.gateway(), await stand.gateway()
    admin, red, blue = await one.key("admin"), await one.key("viewer"), await one.key("viewer")
    subject = f"key:{red.split('_')[1]}"
    in_chat = {"Colonnade-Session": "chat"}
    reply = await revoke(one, admin, "session", "chat", subject=subject)
    assert (reply.status, reply.json()["subject"]) == (201, subject), reply.text
    again = await revoke(one, admin, "session", "chat", subject=subject)
    assert again.json()["id"] == reply.json()["id"]
    for replica in (one, other):
        await eventually(lambda replica=replica: refused(replica, red, 403, **in_chat))
        assert not await refused(replica, red, 403, **{"Colonnade-Session": "another"})
        assert not await refused(replica, blue, 403, **in_chat)
        assert not await refused(replica, admin, 403, **in_chat)

    everybodys = (await revoke(one, admin, "session", "chat")).json()
    assert everybodys["subject"] is None
    for replica in (one, other):
        for key in (red, blue):
            await eventually(lambda replica=replica, key=key: refused(replica, key, 403, **in_chat))
    listed = (await one.get("/v1/access/revocations?kind=session&value=chat", admin)).json()["items"]
    assert [found["subject"] for found in listed] == [None, subject]

    # Each is lifted by itself.
    assert (await one.call("DELETE", f"/v1/access/revocations/{everybodys['id']}", admin)).status == 204
    await eventually(lambda: passes(one, blue, **in_chat))
    assert await refused(one, red, 403, **in_chat)
    assert (await one.call("DELETE", f"/v1/access/revocations/{reply.json()['id']}", admin)).status == 204
    await eventually(lambda: passes(one, red, **in_chat))

    audited = (await one.get("/v1/access/audit?target=chat", admin)).json()["items"]
    assert [(entry["action"], entry["detail"]["subject"]) for entry in audited] == [
        ("session.restored", subject),
        ("session.restored", None),
        ("session.revoked", None),
        ("session.revoked", subject),
        ("session.revoked", subject),
    ]


async def test_only_a_session_is_revoked_for_one_subject(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    for kind in ("subject", "key"):
        reply = await revoke(gateway, admin, kind, "x", subject="key:y")
        assert (reply.status, [error["field"] for error in reply.json()["errors"]]) == (422, ["/subject"])
    assert (await revoke(gateway, admin, "session", "x", subject="")).status == 422
    assert (await revoke(gateway, admin, "session", "x", subject="a\nb")).status == 422


async def test_a_revocation_ends_by_itself_and_asked_for_twice_is_one_that_lasts_longer(gateway: Gateway) -> None:
    responder, key = await gateway.key("responder"), await gateway.key("viewer")
    soon = datetime.now(UTC) + timedelta(seconds=3)
    first = (await revoke(gateway, responder, "session", "s", expires_at=soon.isoformat())).json()
    await eventually(lambda: refused(gateway, key, 403, **{"Colonnade-Session": "s"}))
    await eventually(lambda: passes(gateway, key, **{"Colonnade-Session": "s"}))
    assert (await gateway.get("/v1/access/revocations", responder)).json()["items"] == []
    second = (await revoke(gateway, responder, "session", "s")).json()
    assert second["id"] == first["id"]
    assert second["expires_at"] is None
    await eventually(lambda: refused(gateway, key, 403, **{"Colonnade-Session": "s"}))
    together = await asyncio.gather(*(revoke(gateway, responder, "subject", "user:x") for _ in range(10)))
    assert len({reply.json()["id"] for reply in together}) == 1


async def test_an_event_stream_is_cut_when_its_caller_is_revoked(gateway: Gateway, service: Service) -> None:
    async def events(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        await receive()
        await receive()

    service.answers["/v1/alerts/stream"] = events
    admin = await gateway.key("admin")

    async def follow(key: str, session: str) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {key}", "Colonnade-Session": session}
        response = await gateway.session.get("/v1/alerts/stream", headers=headers)
        assert await response.content.readuntil(b"\n\n") == b": hello\n\n"
        return response

    key = await made(gateway, admin)
    streams = [await follow(key["key"], "a"), await follow(key["key"], "b")]
    await revoke(gateway, admin, "session", "a")
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(streams[0].content.read(), 3)
    assert len(gateway.means.lasting) == 1
    await gateway.call("DELETE", f"/v1/access/keys/{key['id']}", admin)
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(streams[1].content.read(), 3)
    assert gateway.means.lasting == {}


async def test_incidents_may_revoke_with_its_own_token_and_reach_nothing_else(
    gateway: Gateway, service: Service
) -> None:
    signer = Signer("incidents", gateway.stand.service_keys["incidents"])
    caller = Caller("service:incidents", "service", scopes=frozenset({"access:respond", "access:write"}))
    token = signer.sign("gateway", caller)
    reply = await revoke(gateway, token, "session", "s-9")
    assert reply.status == 201, reply.text
    assert reply.json()["created_by"] == "service:incidents"
    body = {"name": "x", "roles": ["viewer"]}
    assert (await gateway.call("POST", "/v1/access/keys", token, json=body)).status == 403  # over its issuer's ceiling
    assert (await gateway.get("/v1/assets", token)).status == 401
    assert (await revoke(gateway, signer.sign("inventory", caller), "session", "s-9")).status == 401
    assert service.seen == []


async def test_the_gateways_own_tokens_open_nothing_from_outside(gateway: Gateway, service: Service) -> None:
    await gateway.get("/v1/assets", await gateway.key("admin"))
    stolen = (service.seen[0].header("authorization") or "").removeprefix("Bearer ")
    own = gateway.runtime.peers._signer
    assert own is not None
    for token in (stolen, own.sign("gateway", Caller("root", "user", scopes=frozenset({"access:read"})))):
        for path in ("/v1/assets", "/v1/access/keys"):
            assert (await gateway.get(path, token)).status == 401


async def test_keys_are_paged_newest_first_and_revoked_ones_are_left_out(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    ids = [(await made(gateway, admin, name=f"key {n}"))["id"] for n in range(5)]
    await gateway.call("DELETE", f"/v1/access/keys/{ids[2]}", admin)
    found: list[str] = []
    path = "/v1/access/keys?limit=2"
    while True:
        page = (await gateway.get(path, admin)).json()
        found += [key["id"] for key in page["items"]]
        if page["next_cursor"] is None:
            break
        path = f"/v1/access/keys?limit=2&cursor={page['next_cursor']}"
    assert found == [ids[4], ids[3], ids[1], ids[0], admin.split("_")[1]]
    everything = (await gateway.get("/v1/access/keys?include_revoked=true", admin)).json()["items"]
    assert len(everything) == 6
    assert (await gateway.get("/v1/access/keys?cursor=forged", admin)).status == 422


async def test_every_change_is_in_the_chained_audit(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    key = await made(gateway, admin)
    await gateway.call("POST", f"/v1/access/keys/{key['id']}/rotate", admin, json={})
    await gateway.call("DELETE", f"/v1/access/keys/{key['id']}", admin)
    await revoke(gateway, admin, "session", "s")
    async with gateway.runtime.db.read() as tx:
        actions = list(await tx.scalars(sa.select(audit_entry.c.action).order_by(audit_entry.c.seq)))
    assert actions == ["api_key.created", "api_key.created", "api_key.rotated", "session.revoked"]
    await eventually(lambda: all_sealed(gateway, admin))
    entries = (await gateway.get("/v1/access/audit?action=session.revoked", admin)).json()["items"]
    assert [(entry["actor"], entry["target"]) for entry in entries] == [(f"key:{admin.split('_')[1]}", "s")]
    assert entries[0]["trace_id"]
    verdict = await audit.verify(gateway.runtime.db, gateway.runtime.audit_key)
    assert verdict.intact
    assert verdict.length == 4


async def all_sealed(gateway: Gateway, admin: str) -> bool:
    items = (await gateway.get("/v1/access/audit", admin)).json()["items"]
    return all(entry["hash"] for entry in items)


async def test_last_use_is_stored_in_batches(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    assert (await gateway.get(f"/v1/access/keys/{admin.split('_')[1]}", admin)).json()["last_used_at"] is None
    await gateway.means.access.write_last_use()
    seen = (await gateway.get(f"/v1/access/keys/{admin.split('_')[1]}", admin)).json()["last_used_at"]
    assert abs(datetime.fromisoformat(seen) - datetime.now(UTC)) < timedelta(seconds=10)


async def test_invented_keys_cost_the_database_little_and_real_ones_nothing(gateway: Gateway) -> None:
    real = await gateway.key("viewer")
    access = gateway.means.access
    invented = [keys.generate().plaintext for _ in range(200)]
    answers = await asyncio.gather(
        *(access.principal_of(key) for key in invented), *(access.principal_of(key) for key in invented)
    )
    assert set(answers) == {None}
    assert len(access._unknown) == 200
    assert await access.principal_of(real) is not None
    later = await made(gateway, await gateway.key("admin"))
    assert await access.principal_of(later["key"]) is not None


async def test_a_key_that_did_not_exist_a_moment_ago_works_as_soon_as_it_is_made(gateway: Gateway) -> None:
    """Its id may have been asked for and remembered as unknown."""
    new = keys.generate()
    assert await gateway.means.access.principal_of(new.plaintext) is None
    async with gateway.runtime.db.begin() as tx:
        now = datetime.now(UTC)
        digest = keys.digest(gateway.runtime.settings.peppers[0], new.plaintext)
        await store.add_key(
            tx, ApiKey(new.id, digest, "late", f"key:{new.id}", ("viewer",), None, None, None, None, now, "me", None)
        )

    async def known() -> bool:
        return await gateway.means.access.principal_of(new.plaintext) is not None

    await eventually(known, 2)


async def test_a_key_is_found_although_news_of_it_comes_while_it_is_looked_up(gateway: Gateway) -> None:
    """As the notification of a new key does when the key is used at once."""
    new = keys.generate()
    async with gateway.runtime.db.begin() as tx:
        now = datetime.now(UTC)
        digest = keys.digest(gateway.runtime.settings.peppers[0], new.plaintext)
        await store.add_key(
            tx, ApiKey(new.id, digest, "new", f"key:{new.id}", ("viewer",), None, None, None, None, now, "me", None)
        )
    access = gateway.means.access
    finding = asyncio.create_task(access.principal_of(new.plaintext))
    await asyncio.sleep(0)
    # What refresh does, at the moment between the key being found and whoever asked for it going on.
    access._loading[new.id].add_done_callback(lambda _: access._keys.pop(new.id, None))
    assert await finding is not None
    assert new.id not in access._keys


async def test_the_previous_pepper_still_opens_what_was_made_under_it(stand: Stand) -> None:
    old = await stand.gateway()
    key = await old.key("viewer")

    new_pepper = SecretStr("the pepper that replaces it")
    new = await stand.gateway(key_pepper=new_pepper, previous_key_pepper=stand.settings["key_pepper"])
    assert (await new.get("/v1/assets", key)).status == 200
    without = await stand.gateway(key_pepper=new_pepper)
    assert (await without.get("/v1/assets", key)).status == 401


class Wire:
    """A TCP connection to the database that can be cut."""

    def __init__(self, database_url: str) -> None:
        self._parts = urlsplit(database_url)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = free_port()

    @property
    def url(self) -> str:
        return self._parts._replace(netloc=f"{self._parts.netloc.rpartition(':')[0]}:{self._port}").geturl()

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._parts.port)
        self._open |= {writer, there_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while got := await source.read(65536):
                    sink.write(got)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))


async def test_with_the_database_away_known_keys_go_on_for_a_while_and_then_nobody_is_let_in(
    stand: Stand, service: Service
) -> None:
    wire = Wire(stand.database_url)
    await wire.join()
    gateway = await stand.gateway(access_stale_seconds=2.5, database_url=SecretStr(wire.url))
    known, unknown = await gateway.key("viewer"), await gateway.key("viewer")
    assert (await gateway.get("/v1/assets", known)).status == 200
    await wire.cut()
    assert (await gateway.get("/v1/assets", known)).status == 200
    refusal = await gateway.get("/v1/assets", unknown)
    assert refusal.status == 503
    assert refusal.headers["Retry-After"]
    with pytest.raises(Unavailable):
        await gateway.means.access.principal_of(MISSING)
    assert (await gateway.get("/readyz")).status == 503
    assert (await gateway.get("/livez")).status == 200
    await eventually(lambda: refused(gateway, known, 503), 6)
    await wire.join()
    await eventually(lambda: refused(gateway, known, 200), 8)
    # It has no permits in memory: it waits until the limits are asked again, half a second after they last failed.
    await eventually(lambda: refused(gateway, unknown, 200))
    await gateway.stop()
    await wire.cut()


async def test_a_method_that_a_path_has_not_is_answered_with_all_that_it_has(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    for path, allowed in (("/v1/access/keys", "GET, HEAD, POST"), ("/v1/access/keys/abc", "DELETE, GET, HEAD")):
        reply = await gateway.call("PUT", path, admin)
        assert (reply.status, reply.headers["Allow"]) == (405, allowed)


async def test_head_is_answered_as_get_is_without_the_body(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    for path in ("/v1/access/keys", "/v1/access/me", "/livez"):
        whole, head = await gateway.get(path, admin), await gateway.call("HEAD", path, admin)
        assert (head.status, head.body) == (200, b""), path
        assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        assert head.headers["Content-Length"] == str(len(whole.body))
    assert (await gateway.call("HEAD", "/v1/access/keys")).status == 401
    assert (await gateway.call("HEAD", "/v1/access/keys", await gateway.key("viewer"))).status == 403
    missing = await gateway.call("HEAD", "/v1/access/keys/abc", admin)
    assert (missing.status, missing.body) == (404, b"")
    refusal = await gateway.call("HEAD", "/v1/access/keys/abc/rotate", admin)
    assert (refusal.status, refusal.headers["Allow"]) == (405, "POST")

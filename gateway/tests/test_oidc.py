"""Tokens of issuers: the good ones, forty hostile ones, rotation, and an issuer that is away."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from gateway.jwks import COOLDOWN_SECONDS, FRESH_SECONDS, STALE_SECONDS, KeySet, fetch_from
from gateway.limits import Policy
from gateway.oidc import IssuerSettings, TokenRefused, TokenVerifier
from gateway.tests.conftest import Service, Stand
from gateway.tests.idp import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    WEAK_RSA_KEY,
    Issuer,
    b64,
    issuer_running,
    jwk,
    pem,
)
from shared.errors import Unavailable

USERS = Policy("user", 1000, 60)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuer_running() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def settings_of(issuer: Issuer, **more: Any) -> IssuerSettings:
    given = {"name": "idp", "issuer": issuer.url, "audience": AUDIENCE, "teams_claim": "groups"} | more
    return IssuerSettings(**given)


def verifier_of(issuer: Issuer, session: aiohttp.ClientSession, **more: Any) -> TokenVerifier:
    settings = settings_of(issuer, **more)
    return TokenVerifier([settings], {issuer.url: KeySet(fetch_from(session, issuer.url, None))}, USERS)


async def test_a_good_token_of_each_algorithm_is_believed(issuer: Issuer, session: aiohttp.ClientSession) -> None:
    verifier = verifier_of(issuer, session)
    for token in (
        issuer.token(),
        issuer.token(EC_KEY, kid="ec-1", alg="ES256"),
        issuer.token(ED_KEY, kid="ed-1", alg="EdDSA"),
        issuer.token(typ="AT+JWT"),
        issuer.token(typ="application/at+jwt"),
        issuer.token(aud=["other", AUDIENCE]),
    ):
        principal = await verifier.principal_of(token)
        assert principal.caller.subject == "user:idp:alice"
        assert principal.caller.kind == "user"
        assert principal.caller.roles == frozenset({"analyst"})
        assert principal.caller.teams == frozenset({"payments"})
        assert "incidents:write" in principal.caller.scopes
    assert issuer.asked == 1


def sign_hs(secret: bytes, issuer: Issuer, alg: str = "HS256", **header: Any) -> str:
    """HMAC with somebody's public key as the secret, which PyJWT itself refuses to make."""
    head = b64({"alg": alg, "typ": "at+jwt", "kid": "rsa-1", **header})
    body = b64(issuer.claims())
    return f"{head}.{body}." + b64(hmac.digest(secret, f"{head}.{body}".encode(), hashlib.sha256))


def unsigned(issuer: Issuer, **header: Any) -> str:
    return f"{b64({'typ': 'at+jwt', 'kid': 'rsa-1', **header})}.{b64(issuer.claims())}."


def tampered(issuer: Issuer) -> str:
    head, _, signature = issuer.token().split(".")
    return f"{head}.{b64(issuer.claims(sub='root', roles=['admin']))}.{signature}"


def der(issuer: Issuer) -> bytes:
    return RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def payload(issuer: Issuer, raw: bytes) -> str:
    """A correctly signed token whose payload is `raw`."""
    return jwt.api_jws.PyJWS().encode(raw, RSA_KEY, "RS256", headers={"typ": "at+jwt", "kid": "rsa-1"})


def now(seconds: float) -> int:
    return int(time.time() + seconds)


HOSTILE: dict[str, Callable[[Issuer], str]] = {
    "no algorithm": lambda i: unsigned(i, alg="none"),
    "no algorithm, other case": lambda i: unsigned(i, alg="nOnE"),
    "algorithm missing": lambda i: unsigned(i),
    "algorithm null": lambda i: unsigned(i, alg=None),
    "algorithm a list": lambda i: unsigned(i, alg=["RS256"]),
    "HS256 with the public key as PEM": lambda i: sign_hs(pem(RSA_KEY), i),
    "HS256 with the public key as PEM without a line end": lambda i: sign_hs(pem(RSA_KEY).strip(), i),
    "HS256 with the public key as DER": lambda i: sign_hs(der(i), i),
    "HS256 with the public key as JWK": lambda i: sign_hs(str(jwk(RSA_KEY)).encode(), i),
    "HS256 with an empty secret": lambda i: sign_hs(b"", i),
    "HS512": lambda i: sign_hs(pem(RSA_KEY), i, "HS512"),
    "signed by another key": lambda i: i.token(OTHER_RSA_KEY),
    "signed by another key that travels in the header": lambda i: i.token(
        OTHER_RSA_KEY, headers={"jwk": jwk(OTHER_RSA_KEY)}
    ),
    "signed by another key, named by jku": lambda i: i.token(
        OTHER_RSA_KEY, kid="evil", headers={"jku": "https://evil.example/keys"}
    ),
    "signed by another key, named by x5u": lambda i: i.token(
        OTHER_RSA_KEY, kid="evil", headers={"x5u": "https://evil.example/cert"}
    ),
    "signed by another key, with its chain": lambda i: i.token(OTHER_RSA_KEY, headers={"x5c": [b64(b"cert")]}),
    "changed after signing": tampered,
    "signature cut": lambda i: i.token()[:-20],
    "signature empty": lambda i: i.token().rpartition(".")[0] + ".",
    "ES256 with a zero signature": lambda i: (
        i.token(EC_KEY, kid="ec-1", alg="ES256").rpartition(".")[0] + "." + b64(bytes(64))
    ),
    "ES256 claimed for an RSA key": lambda i: i.token(EC_KEY, kid="rsa-1", alg="ES256"),
    "RS256 claimed for an EC key": lambda i: i.token(kid="ec-1"),
    "RS512 where the key is for RS256": lambda i: i.token(alg="RS512"),
    "key id unknown": lambda i: i.token(kid="nobody"),
    "key id a path": lambda i: i.token(kid="../../../../dev/null"),
    "key id SQL": lambda i: i.token(kid="x' UNION SELECT 'key'--"),
    "key id a URL": lambda i: i.token(kid="https://evil.example/keys"),
    "key id a number": lambda i: unsigned(i, alg="RS256", kid=1),
    "key id very long": lambda i: i.token(kid="k" * 500),
    "key id missing among several keys": lambda i: i.token(OTHER_RSA_KEY, kid=None),
    "critical extension": lambda i: i.token(headers={"crit": ["exp"]}),
    "unencoded payload": lambda i: i.token(headers={"b64": False, "crit": ["b64"]}),
    "wrong type": lambda i: i.token(typ="JWT"),
    "type missing": lambda i: i.token(typ=None),
    "an id token": lambda i: i.token(typ="id+jwt"),
    "wrong audience": lambda i: i.token(aud="other"),
    "audience missing": lambda i: i.token(aud=None),
    "audience a prefix": lambda i: i.token(aud=AUDIENCE[:-1]),
    "wrong issuer": lambda i: i.token(iss="https://evil.example"),
    "issuer with a slash": lambda i: i.token(iss=i.url + "/"),
    "issuer missing": lambda i: i.token(iss=None),
    "issuer a list": lambda i: payload(i, b'{"iss":["x"],"sub":"a","aud":"colonnade"}'),
    "expired": lambda i: i.token(exp=now(-31)),
    "expiry missing": lambda i: i.token(exp=None),
    "expiry text": lambda i: i.token(exp="tomorrow"),
    "expiry infinite": lambda i: payload(
        i, f'{{"iss":"{i.url}","sub":"a","aud":"colonnade","iat":1,"exp":1e999}}'.encode()
    ),
    "not valid yet": lambda i: i.token(nbf=now(90)),
    "issued in the future": lambda i: i.token(iat=now(90)),
    "issue time missing": lambda i: i.token(iat=None),
    "subject missing": lambda i: i.token(sub=None),
    "subject empty": lambda i: i.token(sub=""),
    "subject a number": lambda i: payload(
        i, f'{{"iss":"{i.url}","sub":1,"aud":"colonnade","iat":1,"exp":{now(60)}}}'.encode()
    ),
    "subject with a line break": lambda i: i.token(sub="alice\nroot"),
    "subject very long": lambda i: i.token(sub="a" * 300),
    "too long": lambda i: i.token(padding="x" * 9000),
    "four parts": lambda i: i.token() + ".x",
    "five parts, encrypted": lambda i: ".".join([b64({"alg": "dir", "enc": "A256GCM"}), "", "x", "y", "z"]),
    "two parts": lambda i: i.token().rpartition(".")[0],
    "not base64": lambda i: "a%.b%.c%",
    "payload not JSON": lambda i: payload(i, b"not json"),
    "payload a list": lambda i: payload(i, b"[]"),
    "header a list": lambda i: f"{b64(b'[]')}.{b64(i.claims())}.x",
    "header deeply nested": lambda i: f"{b64(b'[' * 3000)}.{b64(i.claims())}.x",
}


async def test_no_hostile_token_is_believed(issuer: Issuer, session: aiohttp.ClientSession) -> None:
    verifier = verifier_of(issuer, session)
    believed = []
    for name, make in HOSTILE.items():
        try:
            await verifier.principal_of(make(issuer))
        except TokenRefused:
            continue
        believed.append(name)
    assert believed == []
    assert len(HOSTILE) >= 40
    assert await verifier.principal_of(issuer.token())  # and all of them left it working


@pytest.mark.parametrize(
    ("claim", "seconds", "accepted"),
    [
        ("exp", -25, True),
        ("exp", -35, False),
        ("nbf", 25, True),
        ("nbf", 40, False),
        ("iat", 25, True),
        ("iat", 40, False),
    ],
)
async def test_clocks_may_differ_by_thirty_seconds(
    issuer: Issuer, session: aiohttp.ClientSession, claim: str, seconds: int, accepted: bool
) -> None:
    verifier = verifier_of(issuer, session)
    claims: dict[str, Any] = {claim: now(seconds)}
    token = issuer.token(**claims)
    if accepted:
        assert await verifier.principal_of(token)
    else:
        with pytest.raises(TokenRefused):
            await verifier.principal_of(token)


async def test_symmetric_private_weak_and_encryption_keys_in_a_key_set_are_not_used(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    secret = b"a shared secret of thirty-two bytes!!"
    issuer.keys = [
        {"kty": "oct", "k": b64(secret), "kid": "oct"},
        jwk(OTHER_RSA_KEY, kid="enc", use="enc"),
        {**jwk(RSA_KEY, kid="private"), "d": "x"},
        jwk(WEAK_RSA_KEY, kid="weak"),
        jwk(RSA_KEY, kid="signs", key_ops=["sign"]),
        jwk(RSA_KEY, kid="rsa-1"),
    ]
    verifier = verifier_of(issuer, session)
    with pytest.warns(UserWarning, match="below"):  # PyJWT's own
        weak = issuer.token(WEAK_RSA_KEY, kid="weak")
    tokens = [sign_hs(secret, issuer, kid="oct"), issuer.token(OTHER_RSA_KEY, kid="enc"), weak]
    tokens += [issuer.token(RSA_KEY, kid="private"), issuer.token(RSA_KEY, kid="signs")]
    for token in tokens:
        with pytest.raises(TokenRefused):
            await verifier.principal_of(token)
    assert await verifier.principal_of(issuer.token())


async def test_claims_are_mapped_to_our_roles_and_teams_and_nothing_else(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    verifier = verifier_of(
        issuer,
        session,
        roles_claim="realm_access.roles",
        roles={"SecOps": "responder", "Everyone": "viewer"},
        teams_claim="https://example/teams",
        team_map={"g-1": "payments"},
        organization_values=("g-all",),
    )
    some: dict[str, Any] = {"https://example/teams": ["g-1", "g-2"]}
    token = issuer.token(roles=["admin"], realm_access={"roles": ["SecOps", "admin", 7]}, **some)
    caller = (await verifier.principal_of(token)).caller
    assert (caller.roles, caller.teams) == (frozenset({"responder"}), frozenset({"payments"}))
    every: dict[str, Any] = {"https://example/teams": ["g-all"]}
    everywhere = issuer.token(realm_access={"roles": "Everyone"}, **every)
    assert (await verifier.principal_of(everywhere)).caller.teams is None
    nothing = (await verifier.principal_of(issuer.token(realm_access="x", groups=["payments"]))).caller
    assert (nothing.roles, nothing.scopes, nothing.teams) == (frozenset(), frozenset(), frozenset())


async def test_nobody_becomes_a_service_or_somebody_elses_subject(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    verifier = verifier_of(issuer, session)
    caller = (await verifier.principal_of(issuer.token(sub="key:7GmQ2rX0bZkA", roles=["service", "admin2"]))).caller
    assert caller.subject == "user:idp:key:7GmQ2rX0bZkA"
    assert caller.roles == frozenset()
    with pytest.raises(ValidationError):
        settings_of(issuer, roles={"x": "service"})
    with pytest.raises(ValidationError):
        settings_of(issuer, roles={"x": "root"})
    with pytest.raises(ValidationError):
        settings_of(issuer, algorithms=("HS256",))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_rotation_refuses_no_valid_token_and_invented_key_ids_cause_no_fetches(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    clock = Clock()
    keys = KeySet(fetch_from(session, issuer.url, None), clock=clock)
    assert await keys.find("rsa-1", "RS256")
    issuer.keys.append(jwk(OTHER_RSA_KEY, kid="rsa-2", use="sig", alg="RS256"))
    found = await asyncio.gather(*(keys.find("rsa-2", "RS256") for _ in range(50)))
    assert all(found)
    assert issuer.asked == 2
    for n in range(10_000):
        assert await keys.find(f"invented-{n}", "RS256") is None
        clock.now += 0.01  # 100 s in all
    assert issuer.asked <= 2 + 100 // COOLDOWN_SECONDS + 1
    assert len(keys._unknown) <= 128
    assert await keys.find("rsa-1", "RS256")
    assert await keys.find("rsa-2", "RS256")


async def test_an_issuer_that_is_away_stops_nobody_for_a_day_and_is_not_asked_all_the_time(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    clock = Clock()
    keys = KeySet(fetch_from(session, issuer.url, None), clock=clock)
    assert await keys.find("rsa-1", "RS256")
    issuer.down = True
    for _ in range(360):
        clock.now += 10
        assert await keys.find("rsa-1", "RS256")
        await asyncio.sleep(0)
    assert issuer.asked <= 1 + (3600 - FRESH_SECONDS) / COOLDOWN_SECONDS + 1
    clock.now += STALE_SECONDS
    with pytest.raises(Unavailable):
        await keys.find("rsa-1", "RS256")
    issuer.down = False
    clock.now += COOLDOWN_SECONDS
    assert await keys.find("rsa-1", "RS256")


async def test_an_issuer_that_cannot_be_read_at_first_is_asked_again_soon(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    clock = Clock()
    issuer.down = True
    keys = KeySet(fetch_from(session, issuer.url, None), clock=clock)
    with pytest.raises(Unavailable):
        await keys.find("rsa-1", "RS256")
    issuer.down = False
    clock.now += 2.1
    assert await keys.find("rsa-1", "RS256")


async def test_an_empty_key_set_and_a_foreign_discovery_document_change_nothing(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    clock = Clock()
    keys = KeySet(fetch_from(session, issuer.url, None), clock=clock)
    assert await keys.find("rsa-1", "RS256")
    issuer.keys = []
    clock.now += FRESH_SECONDS + 1
    assert await keys.find("rsa-1", "RS256")
    await asyncio.sleep(0.1)
    assert await keys.find("rsa-1", "RS256")
    real, issuer.url = issuer.url, "http://127.0.0.1:1"
    with pytest.raises(Unavailable):
        await KeySet(fetch_from(session, real, None)).find("rsa-1", "RS256")
    with pytest.raises(Unavailable):
        await KeySet(fetch_from(session, "http://issuer.example", None)).find("rsa-1", "RS256")  # not over https


async def test_a_token_opens_the_gateway_and_its_session_can_be_revoked(
    stand: Stand, service: Service, issuer: Issuer
) -> None:
    gateway = await stand.gateway(issuers=(settings_of(issuer),), user_limit=50)
    token = issuer.token(sid="login-7")
    reply = await gateway.get("/v1/assets", token)
    assert reply.status == 200, reply.text
    assert reply.headers["RateLimit-Policy"] == '"user";q=50;w=60'
    seen = (service.seen[0].header("authorization") or "").removeprefix("Bearer ")
    caller = stand.verifiers["inventory"].verify(seen)
    assert (caller.subject, caller.session_id) == ("user:idp:alice", "login-7")
    assert token not in str(service.seen[0].headers)
    responder = await gateway.key("responder")
    body = {"kind": "session", "value": "login-7", "reason": "incident 7"}
    assert (await gateway.call("POST", "/v1/access/revocations", responder, json=body)).status == 201
    await gateway.means.access.refresh()
    assert (await gateway.get("/v1/assets", token)).status == 403
    other_header = {"Colonnade-Session": "another"}  # naming another session does not help
    assert (await gateway.get("/v1/assets", token, headers=other_header)).status == 403
    assert (await gateway.get("/v1/assets", issuer.token(sid="login-8"))).status == 200
    for name, make in HOSTILE.items():
        if name == "too long":
            continue
        assert (await gateway.get("/v1/assets", make(issuer))).status == 401, name
    assert len(service.seen) == 2


async def test_a_login_revoked_for_its_user_ends_that_users_and_no_other(
    stand: Stand, service: Service, issuer: Issuer
) -> None:
    gateway = await stand.gateway(issuers=(settings_of(issuer),))
    alice, bob = issuer.token(sub="Álice B", sid="login 7"), issuer.token(sub="bob", sid="login 7")
    responder = await gateway.key("responder")
    body = {"kind": "session", "value": "login 7", "reason": "incident 7", "subject": "user:idp:Álice B"}
    assert (await gateway.call("POST", "/v1/access/revocations", responder, json=body)).status == 201
    await gateway.means.access.refresh()
    assert (await gateway.get("/v1/assets", alice)).status == 403
    assert (await gateway.get("/v1/assets", alice, headers={"Colonnade-Session": "another"})).status == 403
    assert (await gateway.get("/v1/assets", bob)).status == 200
    assert (await gateway.get("/v1/assets", issuer.token(sub="Álice B", sid="login 8"))).status == 200


async def test_an_expired_token_is_refused_although_it_was_verified_before(
    issuer: Issuer, session: aiohttp.ClientSession
) -> None:
    verifier = verifier_of(issuer, session)
    token = issuer.token(exp=now(-28))  # 2 s of the leeway are left
    assert await verifier.principal_of(token)
    await asyncio.sleep(3)
    with pytest.raises(TokenRefused):
        await verifier.principal_of(token)

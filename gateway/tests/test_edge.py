"""Bytes as an attacker sends them, on raw sockets: framing, headers, targets. One request in, at most one out."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from gateway.tests.conftest import Gateway, Service, Stand
from shared.testing import eventually

GET = b"GET /v1/assets HTTP/1.1\r\nHost: gateway\r\n"
POST = b"POST /v1/assets HTTP/1.1\r\nHost: gateway\r\n"
SMUGGLED = b"GET /v1/access/keys HTTP/1.1\r\nHost: gateway\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


REFUSED = {
    "CL and TE": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two CL, equal": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "two CL, different": POST + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + SMUGGLED,
    "CL list": POST + b"Content-Length: 0, 0\r\n\r\n",
    "CL signed": POST + b"Content-Length: +1\r\n\r\nx",
    "CL negative": POST + b"Content-Length: -1\r\n\r\n",
    "CL hex": POST + b"Content-Length: 0x1\r\n\r\nx",
    "CL empty": POST + b"Content-Length:\r\n\r\n",
    "CL overflow": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "CL with space inside": POST + b"Content-Length: 1 1\r\n\r\n",
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"POST /v1/assets HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET /v1/assets HTTP/1.1\nHost: gateway\n\n",
    "bare CR": b"GET /v1/assets HTTP/1.1\r\nHost: gateway\rX: 1\r\n\r\n",
    "folded header": GET + b"Accept: a\r\n b\r\n\r\n",
    "NUL in a value": GET + b"Accept: a\x00b\r\n\r\n",
    "space in a name": GET + b"Accept : a\r\n\r\n",
    "empty name": GET + b": a\r\n\r\n",
    "no colon": GET + b"Accept\r\n\r\n",
    "no Host": b"GET /v1/assets HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: other\r\n\r\n",
    "Host with a path": b"GET /v1/assets HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a login": b"GET /v1/assets HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "Host empty": b"GET /v1/assets HTTP/1.1\r\nHost:\r\n\r\n",
    "absolute target": b"GET http://gateway/v1/assets HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "CONNECT": b"CONNECT inventory:8081 HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "TRACE": b"TRACE /v1/assets HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "unknown method": b"BREW /v1/assets HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "lower-case method": b"get /v1/assets HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "HTTP/0.9": b"GET /v1/assets\r\n\r\n",
    "HTTP/1.2": b"GET /v1/assets HTTP/1.2\r\nHost: gateway\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "dot segments": b"GET /v1/assets/../access/keys HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "encoded slash": b"GET /v1/assets%2f..%2faccess HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "double slash": b"GET //v1/assets HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "underscore in a name": GET + b"X_Forwarded_User: root\r\n\r\n",
    "dot in a name": GET + b"X.Forwarded.User: root\r\n\r\n",
    "two Authorizations": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "expectation": POST + b"Expect: 200-maybe\r\nContent-Length: 0\r\n\r\n",
    "upgrade with a body": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    + SMUGGLED,
    "chunk size not hex": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk size signed": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "chunk without CR": POST + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
    "chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "chunk size overflow": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\nx\r\n0\r\n\r\n",
}


# Refused by the application rather than by the protocol: the connection stays usable.
KEPT = {
    "dot segments",
    "encoded slash",
    "double slash",
    "underscore in a name",
    "dot in a name",
    "two Authorizations",
}


async def test_what_can_be_framed_in_two_ways_is_refused_and_nothing_reaches_a_service(
    gateway: Gateway, service: Service
) -> None:
    key = (await gateway.key()).encode()

    async def attack(request: bytes) -> str | None:
        received = await gateway.raw(request.replace(b"Host:", b"Authorization: Bearer %b\r\nHost:" % key, 1))
        found = statuses(received)
        if len(found) != 1 or not (400 <= found[0] < 500 or found[0] == 505):
            return repr(received)
        if not json.loads(received.partition(b"\r\n\r\n")[2])["trace_id"]:
            return "no trace id"
        return None if b"connection: close" in received else "kept"

    answers = await asyncio.gather(*(attack(request) for request in REFUSED.values()))
    assert {name: answer for name, answer in zip(REFUSED, answers, strict=True) if answer} == dict.fromkeys(
        KEPT, "kept"
    )
    assert service.seen == []


async def test_a_pipelined_second_request_is_answered_in_order_as_a_request_of_its_own(
    gateway: Gateway, service: Service
) -> None:
    key = (await gateway.key()).encode()
    signed = b"Authorization: Bearer %b\r\n" % key
    two = POST + signed + b"Content-Length: 3\r\n\r\nabc" + GET + signed + b"\r\n" + SMUGGLED
    received = await gateway.raw(two)
    assert statuses(received) == [200, 200, 401]
    assert [(seen.method, seen.body) for seen in service.seen] == [("POST", b"abc"), ("GET", b"")]


async def test_the_time_for_a_pipelined_body_begins_when_its_request_is_served(stand: Stand, service: Service) -> None:
    gate = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    service.answers["/v1/assets/slow"] = slow
    gateway = await stand.gateway(body_total_seconds=1.5)
    signed = b" HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\n" % (await gateway.key()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /v1/assets/slow" + signed + b"\r\n")
    writer.write(b"POST /v1/assets" + signed + b"Content-Length: 6\r\n\r\nabc")
    await asyncio.sleep(1.7)
    gate.set()
    received = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    await asyncio.sleep(0.7)  # a sweep looks at it meanwhile
    writer.write(b"def")
    received += await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert statuses(received) == [200, 200]
    assert service.seen[-1].body == b"abcdef"
    writer.close()


async def test_an_upgrade_without_a_body_is_ignored_and_the_connection_goes_on(
    gateway: Gateway, service: Service
) -> None:
    key = (await gateway.key()).encode()
    signed = b"Authorization: Bearer %b\r\n" % key
    upgrade = GET + signed + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n"
    assert statuses(await gateway.raw(upgrade + GET + signed + b"\r\n")) == [200, 200]
    assert all("upgrade" not in seen.headers for seen in service.seen)


async def test_trailers_never_become_headers(gateway: Gateway, service: Service) -> None:
    key = (await gateway.key()).encode()
    body = b"3\r\nabc\r\n0\r\nIf-Match: forged\r\nAuthorization: Bearer forged\r\nX_Y: 1\r\n\r\n"
    request = POST + b"Authorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n" % key + body
    assert statuses(await gateway.raw(request)) == [200]
    assert service.seen[0].body == b"abc"
    assert "if-match" not in service.seen[0].headers


FORGED = [
    *[b"X-User: root", b"X-Remote-User: root", b"X-Forwarded-User: root", b"Remote-User: root", b"X-Auth: root"],
    *[b"X-Forwarded-For: 127.0.0.1", b"X-Real-IP: 127.0.0.1", b"Forwarded: for=127.0.0.1;by=gateway", b"Via: gateway"],
    *[
        b"X-Forwarded-Host: x",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Prefix: /admin",
        b"X-Original-URL: /v1/access",
    ],
    *[b"X-Rewrite-URL: /v1/access", b"X-HTTP-Method-Override: DELETE", b"X-Method-Override: DELETE", b"X-Role: admin"],
    *[b"X-Roles: admin", b"X-Scopes: access:write", b"X-Team: *", b"X-Tenant: other", b"X-Subject: key:other"],
    *[
        b"X-Internal: 1",
        b"X-Service: gateway",
        b"X-Caller: root",
        b"Colonnade-Subject: root",
        b"Colonnade-Roles: admin",
    ],
    *[
        b"Proxy-Authorization: Basic eDp5",
        b"Cookie: session=root",
        b"X-Api-Key: root",
        b"Api-Key: root",
        b"Token: root",
    ],
    *[b"Keep-Alive: timeout=1", b"Proxy-Connection: close", b"TE: trailers", b"Trailer: Authorization", b"Upgrade: x"],
    *[
        b"Connection: Authorization",
        b"Connection: authorization, traceparent, host",
        b"Connection: close, Content-Type",
    ],
    *[b"Connection: X-User\r\nX-User: root", b"Content-Length-X: 1", b"Origin: null", b"Referer: http://x", b"X-: 1"],
    *[b"x-user: root\r\nX-USER: admin", b"HTTP2-Settings: AAM", b"Max-Forwards: 0", b"Authorization-X: Bearer x"],
    *[b"Baggage: role=admin", b"B3: 1", b"X-B3-TraceId: 1", b"X-Request-Id: 1\t2", b"X-Amzn-Oidc-Identity: root"],
    *[b"X-Ms-Client-Principal: root", b"X-Goog-Authenticated-User-Email: root", b"X-Envoy-Internal: true", b"From: r"],
]
ALLOWED_TO_SERVICE = {"host", "authorization", "traceparent", "accept", "content-type"}


async def test_nothing_that_a_client_sends_becomes_identity(gateway: Gateway, service: Service) -> None:
    key = await gateway.key("viewer", teams=["payments"])
    for forged in FORGED:
        service.seen.clear()
        request = GET + b"Accept: */*\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n" % (key.encode(), forged)
        assert statuses(await gateway.raw(request, quiet_seconds=0.0)) == [200], forged
        seen = service.seen[0]
        assert set(seen.headers) <= ALLOWED_TO_SERVICE, forged
        token = (seen.header("authorization") or "").removeprefix("Bearer ")
        caller = gateway.stand.verifiers["inventory"].verify(token)
        assert (caller.roles, caller.teams) == (frozenset({"viewer"}), frozenset({"payments"})), forged
        assert seen.header("host") == service.url.removeprefix("http://")


async def test_too_many_or_too_large_headers_are_refused(gateway: Gateway, service: Service) -> None:
    many = b"".join(b"X-%d: 1\r\n" % n for n in range(101))
    assert statuses(await gateway.raw(GET + many + b"\r\n")) == [431]
    assert statuses(await gateway.raw(GET + b"X-Large: " + b"a" * 33_000 + b"\r\n\r\n")) == [431]
    assert statuses(await gateway.raw(b"GET /v1/assets?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: g\r\n\r\n")) == [414]
    assert service.seen == []


async def test_a_header_block_that_never_ends_is_cut_off(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(GET)
    sent = 0
    try:
        while sent < 20_000_000:
            writer.write(b"X-Filler: " + b"a" * 65_000 + b"\r\n")
            await writer.drain()
            sent += 65_000
    except ConnectionError:
        pass
    received = await asyncio.wait_for(reader.read(-1), 5)
    assert statuses(received) in ([431], [])
    writer.close()


async def test_a_60_mb_body_is_refused_before_it_is_read_and_the_client_learns_why(
    gateway: Gateway, service: Service
) -> None:
    key = (await gateway.key()).encode()
    head = POST + b"Authorization: Bearer %b\r\nContent-Length: 60000000\r\n\r\n" % key
    received = await gateway.raw(head + b"x" * 60_000_000)
    assert statuses(received) == [413]
    assert b"1048576" in received
    assert service.seen == []


async def test_a_chunked_body_over_the_limit_is_cut_off(gateway: Gateway, service: Service) -> None:
    key = (await gateway.key()).encode()
    head = POST + b"Authorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n" % key
    received = await gateway.raw(
        head + b"10000\r\n" + b"x" * 65536 + b"\r\n" + b"100000\r\n" + b"x" * 1048576 + b"\r\n"
    )
    assert statuses(received) == [413]
    await eventually(lambda: service.disconnected.is_set() or not service.seen)


async def test_an_unread_small_body_leaves_the_connection_usable(gateway: Gateway) -> None:
    request = POST + b"Content-Length: 5\r\n\r\n"
    assert statuses(await gateway.raw(request, b"hello", GET + b"\r\n")) == [401, 401]


async def test_expect_continue_is_answered_only_when_the_body_is_wanted(gateway: Gateway, service: Service) -> None:
    key = (await gateway.key()).encode()
    head = POST + b"Authorization: Bearer %b\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    assert (await gateway.get("/v1/assets", key.decode())).status == 200  # the key is in memory now
    assert statuses(await gateway.raw(head % (key, 3), b"abc")) == [100, 200]
    assert statuses(await gateway.raw(head % (key, 60_000_000))) == [413]
    assert statuses(await gateway.raw(head % (b"nobody", 3))) == [401]


async def test_http_1_0_gets_an_answer_without_chunks_and_the_connection_is_closed(gateway: Gateway) -> None:
    received = await gateway.raw(b"GET / HTTP/1.0\r\n\r\n")
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert b"transfer-encoding" not in received


async def test_slow_headers_slow_bodies_and_silence_are_ended_while_others_are_served(stand: Stand) -> None:
    gateway = await stand.gateway(
        head_seconds=0.6, body_idle_seconds=0.6, body_total_seconds=2.0, keep_alive_seconds=0.6
    )
    key = (await gateway.key()).encode()

    async def dribble(first: bytes, drop: bytes, pause: float = 0.1) -> tuple[bytes, float]:
        started = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(first)

        async def drip() -> None:
            while True:
                await asyncio.sleep(pause)
                writer.write(drop)
                await writer.drain()

        dripping = asyncio.create_task(drip())
        try:
            received = await asyncio.wait_for(reader.read(-1), 10)
        except ConnectionError:
            received = b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()
        return received, asyncio.get_running_loop().time() - started

    signed = POST + b"Authorization: Bearer %b\r\n" % key
    slow = [
        dribble(b"GET /v1/as", b"s"),
        dribble(GET, b"X-A: b\r\n"),
        dribble(b"", b"\r\n"),
        dribble(b"", b""),
        dribble(signed + b"Content-Length: 1000\r\n\r\n", b""),
        dribble(signed + b"Content-Length: 1000\r\n\r\n", b"x"),
        dribble(signed + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        *(dribble(GET, b"X-A: b\r\n") for _ in range(50)),
    ]
    waiting = asyncio.gather(*slow)
    while not waiting.done():
        assert (await gateway.get("/v1/assets", key.decode())).status == 200
        await asyncio.sleep(0.05)
    answers = await waiting
    assert [statuses(received) for received, _ in answers[:2]] == [[408], [408]]
    assert [statuses(received) for received, _ in answers[2:4]] == [[], []]
    assert [statuses(received) for received, _ in answers[4:7]] == [[408], [408], [408]]
    assert max(seconds for _, seconds in answers) < 8

"""What reaches a service, what reaches the client, and what happens when either goes away."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest
import uvicorn

from gateway import durations
from gateway.edge import Edge
from gateway.tests.conftest import Gateway, Service, Stand, service_running, serving
from shared.testing import eventually


async def test_a_request_reaches_its_service_with_a_token_that_says_who_asks(
    gateway: Gateway, service: Service
) -> None:
    key = await gateway.key("viewer", teams=["payments"])
    response = await gateway.get("/v1/assets?limit=5", key)
    assert response.status == 200, response.text
    seen = service.seen[-1]
    assert (seen.path, seen.query) == ("/v1/assets", "limit=5")
    caller = gateway.stand.verifiers["inventory"].verify((seen.header("authorization") or "").removeprefix("Bearer "))
    assert caller.teams == frozenset({"payments"})
    assert caller.roles == frozenset({"viewer"})
    assert caller.subject == f"key:{key.split('_')[1]}"
    assert response.headers["RateLimit-Policy"] == '"key";q=60000;w=60'
    assert response.headers["RateLimit"].startswith('"key";r=')


async def test_a_token_is_for_one_service_and_shared_by_the_requests_of_half_a_minute(
    gateway: Gateway, service: Service
) -> None:
    key = await gateway.key("viewer")
    for path in ("/v1/assets", "/v1/assets/1", "/v1/risk/portfolio"):
        await gateway.get(path, key)
    first, again, other = (seen.header("authorization") for seen in service.seen)
    assert first == again != other
    verifiers = gateway.stand.verifiers
    assert verifiers["risk"].verify((other or "").removeprefix("Bearer "))
    with pytest.raises(Exception, match="Audience"):
        verifiers["inventory"].verify((other or "").removeprefix("Bearer "))


async def test_a_session_named_by_the_client_travels_inside_the_token_only(gateway: Gateway, service: Service) -> None:
    key = await gateway.key("viewer")
    await gateway.get("/v1/assets", key, headers={"Colonnade-Session": "chat-17"})
    await gateway.get("/v1/assets", key)
    with_session, without = (
        gateway.stand.verifiers["inventory"].verify((seen.header("authorization") or "").removeprefix("Bearer "))
        for seen in service.seen
    )
    assert (with_session.session_id, without.session_id) == ("chat-17", None)
    assert "colonnade-session" not in service.seen[0].headers


async def test_answers_lose_what_tells_of_the_inside_and_gain_what_protects(gateway: Gateway, service: Service) -> None:
    response = await gateway.get("/v1/assets", await gateway.key())
    assert "server" not in response.headers
    assert "x-internal" not in response.headers
    assert response.headers["ETag"] == '"3"'
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_every_method_passes_with_its_body_and_head_has_none(gateway: Gateway, service: Service) -> None:
    key = await gateway.key()
    for method in ("POST", "PUT", "PATCH", "DELETE", "GET"):
        response = await gateway.call(method, "/v1/assets/1", key, data=b"{}")
        assert (response.status, service.seen[-1].method, service.seen[-1].body) == (200, method, b"{}")
    response = await gateway.call("HEAD", "/v1/assets/1", key)
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0
    assert (await gateway.get("/v1/assets", key)).status == 200


async def test_without_a_credential_nothing_reaches_a_service(gateway: Gateway, service: Service) -> None:
    key = await gateway.key()
    wrong = [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {key}",
        f"Token {key}",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}0",
        "Bearer a.b.c",
    ]
    for value in wrong:
        response = await gateway.get("/v1/assets", headers={"Authorization": value} if value else {})
        assert response.status == 401, value
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert problem["type"] == "urn:colonnade:problem:unauthenticated"
        assert problem["status"] == 401
        assert len(problem["trace_id"]) == 32
        assert key not in json.dumps(problem)
    assert service.seen == []


async def test_the_trace_of_the_client_goes_on_and_is_named_in_problems(gateway: Gateway, service: Service) -> None:
    key = await gateway.key()
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await gateway.get("/v1/assets", key, headers={"traceparent": sent})
    assert service.seen[-1].header("traceparent") == sent
    await gateway.get("/v1/assets", key)
    assert len(service.seen[-1].header("traceparent") or "") == 55
    response = await gateway.get("/v1/assets", headers={"traceparent": sent})
    assert response.json()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_an_import_streams_through_in_both_directions_without_being_held(
    gateway: Gateway, service: Service
) -> None:
    """Result lines come back while the body is still being sent: neither side is waited out."""

    async def import_lines(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/x-ndjson")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            if message.get("body"):
                await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    service.answers["/v1/assets/import"] = import_lines
    key = await gateway.key("admin")
    answered = asyncio.Event()

    async def lines() -> Any:
        yield b'{"name":"first"}\n' * 8000  # over what is gathered before a service is asked
        await asyncio.wait_for(answered.wait(), 5)
        yield b'{"name":"second"}\n'

    headers = {"Authorization": f"Bearer {key}"}
    async with gateway.session.post("/v1/assets/import", data=lines(), headers=headers) as response:
        assert response.status == 200
        first = await response.content.readline()
        answered.set()
        rest = await response.content.read()
    assert first == b'{"NAME":"FIRST"}\n'
    assert rest.endswith(b'{"NAME":"SECOND"}\n')
    assert rest.count(b"\n") == 8000


async def test_a_large_import_does_not_grow_the_gateway(gateway: Gateway, service: Service) -> None:
    total = 64 << 20

    async def lines() -> Any:
        for _ in range(total // 65536):
            yield b"x" * 65536

    service.seen.clear()
    sizes: list[int] = []

    async def count(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        sizes.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    service.answers["/v1/assets/import"] = count
    response = await gateway.call("POST", "/v1/assets/import", await gateway.key(), data=lines())
    assert response.status == 200
    assert sizes == [total]


async def test_a_large_answer_waits_for_a_slow_reader(gateway: Gateway, service: Service) -> None:
    sent = 0

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536
        await send({"type": "http.response.body", "body": b""})

    service.answers["/v1/assets"] = flood
    key = await gateway.key()
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(gateway.url, read_bufsize=1024) as session,
        session.get("/v1/assets", headers=headers) as response,
    ):
        await asyncio.sleep(0.5)
        held = sent
        assert held < 40 << 20, "the answer was taken in although nobody reads it"
        received = 0
        async for part in response.content.iter_any():
            received += len(part)
    assert received == 2000 * 65536


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_slow_reader_does_not_touch_the_request_that_got_its_connection_to_the_service(
    gateway: Gateway, service: Service, monkeypatch: pytest.MonkeyPatch, leaves: bool, streamed: bool
) -> None:
    """The service's answer is whole before the client has taken it: from then on its connection is somebody else's."""
    rest, gate = asyncio.Event(), asyncio.Event()
    ports: list[int] = []
    counted: list[int] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        ports.append(scope["client"][1])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        if streamed:
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
            await rest.wait()
        await send({"type": "http.response.body", "body": b"def" if streamed else b"abcdef"})

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        ports.append(scope["client"][1])
        await gate.wait()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def observe(method: str, area: str, status: int, seconds: float) -> None:
        counted.append(status)

    service.answers |= {"/v1/assets/slow": answer, "/v1/assets/other": wait}
    key = await gateway.key()
    monkeypatch.setattr(durations.DURATIONS, "observe", observe)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    port = writer.get_extra_info("sockname")[1]

    def edges() -> list[Edge]:
        connections = gateway.server.server_state.connections
        return [one for one in connections if isinstance(one, Edge) and (one.client or ("", 0))[1] == port]

    await eventually(edges)
    edge = edges()[0]
    request = b"GET /v1/assets/slow HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\n\r\n" % key.encode()
    if streamed:
        writer.write(request)
        await asyncio.wait_for(reader.readuntil(b"abc"), 5)
        edge.pause_writing()  # as the transport does when the client reads no further
        rest.set()
    else:
        edge.pause_writing()
        writer.write(request)
    await eventually(lambda: gateway.means.proxy._upstreams["inventory"]._idle)
    other = asyncio.create_task(gateway.call("POST", "/v1/assets/other", key))  # what would not be sent again
    await eventually(lambda: len(ports) == 2)
    assert ports[0] == ports[1]
    if leaves:
        writer.transport.abort()
        await eventually(lambda: edge.transport.is_closing() and not edges())
        await asyncio.sleep(0.05)
    else:
        edge.resume_writing()
        await asyncio.wait_for(reader.readuntil(b"def"), 5)
        await eventually(lambda: counted)
        assert counted == [200]
        writer.close()
    gate.set()
    assert (await other).status == 201


async def test_events_pass_as_they_happen_and_a_client_that_leaves_ends_them_at_the_service(
    gateway: Gateway, service: Service
) -> None:
    left = asyncio.Event()
    gate = asyncio.Event()

    async def events(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
        await receive()
        left.set()

    service.answers["/v1/alerts/stream"] = events
    headers = {"Authorization": f"Bearer {await gateway.key()}", "Last-Event-ID": "7"}
    async with gateway.session.get("/v1/alerts/stream", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5) == b"data: 1\n\n"
        gate.set()
        assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5) == b"data: 2\n\n"
        assert not left.is_set()
        response.close()
    await asyncio.wait_for(left.wait(), 5)
    assert service.seen[-1].header("last-event-id") == "7"


async def test_a_client_that_leaves_while_the_service_thinks_cancels_the_request_there(
    gateway: Gateway, service: Service
) -> None:
    left = asyncio.Event()

    async def think(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        left.set()

    service.answers["/v1/assets"] = think
    key = await gateway.key()
    with pytest.raises(asyncio.TimeoutError):
        await gateway.get("/v1/assets", key, timeout=aiohttp.ClientTimeout(total=0.3))
    await asyncio.wait_for(left.wait(), 5)
    assert (await gateway.get("/v1/assets/1", key)).status == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_half_request_as_a_whole_one(
    gateway: Gateway, service: Service
) -> None:
    key = await gateway.key()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST /v1/assets/import HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: 500000\r\n\r\n"
    )
    writer.write(head.encode() + b"x" * 200_000)
    await writer.drain()
    await eventually(lambda: service.seen)
    writer.transport.abort()
    await asyncio.wait_for(service.disconnected.wait(), 5)


async def test_a_service_that_is_down_is_named_without_its_address(stand: Stand) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gateway = await stand.gateway(service_urls={"risk": f"http://127.0.0.1:{port}"})
    key = await gateway.key()
    for path, area in (("/v1/risk/portfolio", "risk"), ("/v1/incidents", "incidents")):
        response = await gateway.get(path, key)
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        text = response.text
        assert area in json.loads(text)["detail"]
        assert str(port) not in text
        assert "127.0.0.1" not in text


async def test_a_service_that_comes_back_is_asked_again_also_over_connections_it_closed(stand: Stand) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    gateway = await stand.gateway(service_urls={"inventory": url})
    key = await gateway.key()
    for _ in range(3):
        revived = Service()
        config = uvicorn.Config(revived, port=port, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        async with serving(uvicorn.Server(config)):
            assert (await gateway.get("/v1/assets", key)).status == 200
            assert (await gateway.call("POST", "/v1/assets", key, data=b"{}")).status == 200
        assert (await gateway.get("/v1/assets", key)).status == 503


async def test_a_kept_connection_that_the_service_just_closed_costs_no_repeatable_request(stand: Stand) -> None:
    """The service closes after each answer without saying so; what is idempotent is sent again, a POST is not."""
    answered: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        answered.append(head.split(b" ", 1)[0])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read(1)  # the next request has begun: too late for the gateway to know
        writer.transport.abort()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = await stand.gateway(service_urls={"inventory": url})
    key = await gateway.key()
    assert [(await gateway.get("/v1/assets", key)).status for _ in range(4)] == [200, 200, 200, 200]
    assert (await gateway.call("POST", "/v1/assets", key)).status == 503
    assert (await gateway.call("POST", "/v1/assets", key)).status == 200
    for named in ("Prefer", "If-Match"):  # a value that reads like the header's name is not the header
        assert (await gateway.call("POST", "/v1/assets", key, headers={named: "idempotency-key"})).status == 503
        assert (await gateway.call("POST", "/v1/assets", key)).status == 200
    repeatable = await gateway.call("POST", "/v1/assets", key, headers={"Idempotency-Key": "k"})
    assert repeatable.status == 200
    assert answered.count(b"POST") == 4
    server.close()


MALFORMED = {
    "not HTTP": (b"SSH-2.0-OpenSSH_9\r\n", 502),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", 502),
    "length and chunks": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 502),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 100_000, 502),
    "switching protocols": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 502),
    "closed at once": (b"", 503),
    "closed in the head": (b"HTTP/1.1 200 OK\r\ncontent-le", 503),
}


async def test_an_answer_that_is_not_http_is_a_502_and_a_broken_connection_a_503(stand: Stand) -> None:
    answer = b""

    async def misbehave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(misbehave, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = await stand.gateway(service_urls={"inventory": url})
    key = await gateway.key()
    for name, (answer, status) in MALFORMED.items():  # noqa: B007 - misbehave reads it
        response = await gateway.call("POST", "/v1/assets", key)
        assert response.status == status, name
        assert response.headers["Content-Type"] == "application/problem+json"
    server.close()


CUT = {
    "shorter than its length": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nabc",
    "cut in a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nff\r\nab",
    "no last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
}


async def test_an_answer_that_breaks_off_never_looks_complete(stand: Stand) -> None:
    answer = b""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = await stand.gateway(service_urls={"inventory": url})
    key = await gateway.key()
    for name, answer in CUT.items():  # noqa: B007 - break_off reads it
        with pytest.raises(aiohttp.ClientError):
            print(name, await gateway.get("/v1/assets", key))
    server.close()


async def test_an_answer_that_two_requests_could_claim_is_given_to_none(stand: Stand) -> None:
    """A service that sends a second answer unasked: it must not be read as the next request's."""

    async def double(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
        writer.write(answer + b"one" + answer + b"two")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(double, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = await stand.gateway(service_urls={"inventory": url})
    key = await gateway.key()
    for _ in range(5):
        response = await gateway.get("/v1/assets", key)
        assert response.body == b"one"
    server.close()


async def test_deadlines_end_what_a_service_does_not(stand: Stand) -> None:
    silent: list[asyncio.StreamWriter] = []

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        silent.append(writer)
        if b"/v1/assets/idle" in head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
        if b"/v1/alerts/stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            for _ in range(8):
                writer.write(b": still here\n\n")
                await asyncio.sleep(0.3)
            writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = await stand.gateway(
        service_urls={"inventory": url, "detection": url},
        first_byte_seconds=0.5,
        answer_idle_seconds=0.5,
        total_seconds=1.0,
        stream_idle_seconds=1.0,
    )
    key = await gateway.key()
    response = await gateway.get("/v1/assets", key)
    assert (response.status, response.headers["Retry-After"]) == (504, "5")
    with pytest.raises(aiohttp.ClientError):
        await gateway.get("/v1/assets/idle", key)
    stream = await gateway.get("/v1/alerts/stream", key)  # outlives every total deadline
    assert stream.body.count(b"still here") == 8
    server.close()


async def test_more_requests_than_a_service_may_have_are_refused_at_once(stand: Stand, service: Service) -> None:
    gate = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    service.answers["/v1/assets"] = wait
    gateway = await stand.gateway(upstream_connections=3)
    key = await gateway.key()
    asked = [asyncio.create_task(gateway.get("/v1/assets", key)) for _ in range(3)]
    await eventually(lambda: len(service.seen) == 3)
    assert (await gateway.get("/v1/assets", key)).status == 503
    assert (await gateway.get("/v1/risk/portfolio", key)).status == 200  # one service's trouble is not another's
    gate.set()
    assert [response.status for response in await asyncio.gather(*asked)] == [200, 200, 200]
    assert (await gateway.get("/v1/assets", key)).status == 200


async def test_answers_of_concurrent_requests_are_not_mixed_up(gateway: Gateway) -> None:
    key = await gateway.key()

    async def ask(n: int) -> None:
        response = await gateway.get(f"/v1/assets/{n}", key)
        assert response.json()["path"] == f"/v1/assets/{n}"

    for _ in range(3):
        await asyncio.gather(*(ask(n) for n in range(100)))


async def test_shutting_down_finishes_what_is_asked_and_ends_event_streams(stand: Stand, service: Service) -> None:
    gate = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def events(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        await asyncio.sleep(30)

    service.answers |= {"/v1/assets": slow, "/v1/alerts/stream": events}
    gateway = await stand.gateway()
    key = await gateway.key()
    asked = asyncio.create_task(gateway.get("/v1/assets", key))
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(gateway.url) as session:
        async with session.get("/v1/alerts/stream", headers=headers) as stream:
            await stream.content.readuntil(b"\n\n")
            await eventually(lambda: len(service.seen) == 2)
            gateway.server.should_exit = True
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(stream.content.read(), 3)
        gate.set()
        assert (await asked).body == b"ok"


async def test_two_stacks_of_services_can_stand_behind_one_gateway_process(stand: Stand, service: Service) -> None:
    async with service_running(Service()) as other:
        gateway = await stand.gateway(service_urls={"inventory": service.url, "risk": other.url})
        key = await gateway.key()
        await gateway.get("/v1/assets", key)
        await gateway.get("/v1/risk/portfolio", key)
        assert [seen.path for seen in service.seen] == ["/v1/assets"]
        assert [seen.path for seen in other.seen] == ["/v1/risk/portfolio"]

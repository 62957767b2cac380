"""traceparent and the header allow-lists; plain calls."""

from __future__ import annotations

import pytest

from gateway.headers import for_client, sift
from gateway.problems import Problem
from gateway.trace import traceparent

GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_traceparent_is_passed_on() -> None:
    assert traceparent(GOOD) == (GOOD, "4bf92f3577b34da6a3ce929d0e0e4736")


def test_the_known_part_of_a_later_version_is_read() -> None:
    assert traceparent(b"01" + GOOD[2:] + b"-what-comes-later")[0] == GOOD


@pytest.mark.parametrize(
    "broken",
    [
        None,
        b"",
        b"x",
        GOOD.upper(),
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        GOOD.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32),
        GOOD.replace(b"00f067aa0ba902b7", b"0" * 16),
        GOOD[:-1],
        GOOD.replace(b"-", b"_"),
        b"00-\xff" + GOOD[4:],
    ],
)
def test_a_broken_traceparent_is_replaced(broken: bytes | None) -> None:
    made, trace_id = traceparent(broken)
    assert len(made) == len(GOOD)
    assert trace_id.encode() in made
    assert trace_id != "4bf92f3577b34da6a3ce929d0e0e4736"


def test_only_what_is_listed_reaches_a_service() -> None:
    forwarded, single = sift(
        [
            (b"host", b"x"),
            (b"authorization", b"Bearer x"),
            (b"accept", b"application/json"),
            (b"x-forwarded-for", b"10.0.0.1"),
            (b"x-user", b"root"),
            (b"cookie", b"a=b"),
            (b"forwarded", b"for=1"),
            (b"if-match", b'"3"'),
            (b"connection", b"keep-alive, x-user"),
        ]
    )
    assert b"".join(forwarded) == b'accept: application/json\r\nif-match: "3"\r\n'
    assert single == {b"host": b"x", b"authorization": b"Bearer x"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x_user", b"root")],
        [(b"x.user", b"root")],
        [(b"x-user\xc2\xa0", b"root")],
        [(b"x~user", b"root")],
        [(b"", b"root")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [(b"content-type", b"a/b"), (b"content-type", b"c/d")],
        [(b"idempotency-key", b"1"), (b"idempotency-key", b"2")],
        [(b"colonnade-session", b"1"), (b"colonnade-session", b"2")],
        [(b"traceparent", GOOD), (b"traceparent", GOOD)],
        [(b"authorization", b"Bearer \xc3\xa9")],
        [(b"accept", b"\x80")],
        [(b"if-match", b"a\x00b")],
        [(b"idempotency-key", b"a\x0bb")],
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Problem) as refused:
        sift(headers)
    assert refused.value.status == 400


def test_only_what_is_listed_reaches_the_client_and_no_inner_address_does() -> None:
    passed = for_client(
        [
            (b"content-type", b"application/json"),
            (b"server", b"uvicorn"),
            (b"x-internal", b"10.0.0.7"),
            (b"set-cookie", b"a=b"),
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"location", b"http://10.0.0.7:8081/v1/assets/1"),
            (b"idempotent-replayed", b"true"),
        ],
        b"http://10.0.0.7:8081",
    )
    assert passed == [
        (b"content-type", b"application/json"),
        (b"location", b"/v1/assets/1"),
        (b"idempotent-replayed", b"true"),
    ]

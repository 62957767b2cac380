"""Which targets have one reading, and where they go; plain calls."""

from __future__ import annotations

import pytest

from gateway import target
from shared.auth import SCOPES

CLEAR = [
    b"/v1/assets",
    b"/v1/assets/",
    b"/v1/assets?limit=5&cursor=abc%3D",
    b"/v1/assets/0190b1c2-0000-7000-8000-000000000000/dependencies?direction=upstream",
    b"/v1/playbooks/pii_leakage_in_output",
    b"/v1/assets/caf%C3%A9",
    b"/v1/assets/a..b",
    b"/v1/assets/...",
    b"/v1/assets/.hidden",
    b"/v1/assets/%2E%2Ehidden",
    b"/v1/assets/100%25",
    b"/v1/assets?q=..%2F..%2Fetc",
    b"/v1/assets?next=//evil.example/",
    b"/",
]
AMBIGUOUS = [
    b"",
    b"*",
    b"v1/assets",
    b"http://inventory/v1/assets",
    b"//v1/assets",
    b"/v1//assets",
    b"/v1/assets//",
    b"/v1/assets/../access/keys",
    b"/v1/assets/..",
    b"/v1/./assets",
    b"/v1/assets/.",
    b"/v1/assets/%2e%2e/access/keys",
    b"/v1/assets/%2E%2E",
    b"/v1/assets/.%2e/access",
    b"/v1/assets/%2e./access",
    b"/v1/assets/..;/access/keys",
    b"/v1/assets/..;x=1/access",
    b"/v1/assets/%2e%2e;/access",
    b"/v1/assets%2faccess",
    b"/v1/assets%2Faccess",
    b"/v1/assets%5caccess",
    b"/v1/assets\\..\\access",
    b"/v1/assets/%00",
    b"/v1/assets%0d%0aX-Role:admin",
    b"/v1/assets/%7f",
    b"/v1/assets/%",
    b"/v1/assets/%2",
    b"/v1/assets/%zz",
    b"/v1/assets#fragment",
    b"/v1/assets?a=%00",
    b"/v1/assets?a=%zz",
    b"/v1/assets?a=b#c",
    b"/v1/assets?a=b c",
    b"/v1/as sets",
    b"/v1/assets\x00",
    b"/v1/assets\xff",
    b"/v1/assets?\x80",
    b"/v1/assets\n",
]


@pytest.mark.parametrize("given", CLEAR)
def test_a_target_with_one_reading_passes(given: bytes) -> None:
    assert target.ambiguity(given) is None


@pytest.mark.parametrize("given", AMBIGUOUS)
def test_a_target_with_two_readings_is_refused(given: bytes) -> None:
    assert target.ambiguity(given) is not None


@pytest.mark.parametrize(
    ("path", "service"),
    [
        (b"/v1/assets", "inventory"),
        (b"/v1/assets/x/dependencies", "inventory"),
        (b"/v1/discovery/runs", "inventory"),
        (b"/v1/boms/organization", "inventory"),
        (b"/v1/compliance-gaps", "inventory"),
        (b"/v1/graph/diff", "inventory"),
        (b"/v1/toxic-combinations", "inventory"),
        (b"/v1/risk/portfolio", "risk"),
        (b"/v1/inspections", "detection"),
        (b"/v1/rules/test", "detection"),
        (b"/v1/alerts/stream", "detection"),
        (b"/v1/containments", "detection"),
        (b"/v1/telemetry", "detection"),
        (b"/v1/traces", "detection"),
        (b"/v1/logs", "detection"),
        (b"/v1/incidents/1/timeline", "incidents"),
        (b"/v1/playbooks", "incidents"),
        (b"/v1/actions", "incidents"),
        (b"/v1/webhooks", "incidents"),
        (b"/v1/governance/raci", "governance"),
        (b"/v1/metrics/program", "metrics"),
        (b"/v1/reports/board", "metrics"),
        (b"/v1/access/keys", "gateway"),
    ],
)
def test_the_first_segment_decides_the_service(path: bytes, service: str) -> None:
    found = target.route(path)
    assert found is not None
    assert found.service == service


@pytest.mark.parametrize(
    "path",
    [b"/", b"/v1", b"/v1/", b"/v2/assets", b"/V1/assets", b"/v1/Assets", b"/v1/%61ssets", b"/v1/assetsx", b"/assets"],
)
def test_what_is_not_in_the_table_goes_nowhere(path: bytes) -> None:
    assert target.route(path) is None


def test_imports_stream_and_everything_else_is_bounded() -> None:
    bounds = {
        path: target.route(path) for path in (b"/v1/assets/import", b"/v1/traces", b"/v1/assets", b"/v1/assets/x/bom")
    }
    sizes = {path: route.max_body_bytes for path, route in bounds.items() if route}
    assert sizes[b"/v1/assets"] == 1 << 20
    assert sizes[b"/v1/assets/import"] > sizes[b"/v1/traces"] == 8 << 20
    assert [path for path, route in bounds.items() if route and route.untimed] == [b"/v1/assets/import"]


def test_every_service_of_the_scope_table_is_reachable() -> None:
    assert {scope.partition(":")[0] for scope in SCOPES} - {"access", "telemetry"} == set(target.SERVICES)

"""The gateway against nginx, proxying the same upstream in the same run.

    python bench/gateway.py [--seconds 4] [--rounds 3]

Claims: with key check, rate limit and token exchange the gateway serves at least half of nginx's requests per second,
and adds at most 1.5 ms at p50. Starts everything itself: a throwaway PostgreSQL, an upstream of the kind our services
are (a minimal ASGI application under uvicorn, so that the proxy and not the upstream is what limits), nginx with one
worker, and the gateway with one process. Proxies share the first core one at a time; upstream and load generator have
the second, and the third where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deploy.local.ports import free_port
from deploy.local.postgres import Postgres

ROOT = Path(__file__).resolve().parents[1]
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE = CORES[0]
LOAD_CORES = CORES[1:] or CORES
CONNECTIONS = 32

UPSTREAM = """
BODY = b'{"items":[' + b",".join(
    b'{"asset_id":"0190b1c2-0000-7000-8000-00000000000%d","name":"support-agent","risk_score":53.44}' % n
    for n in range(5)
) + b'],"next_cursor":null}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
"""

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream service {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port}; keepalive_requests 100000000;
        location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@dataclass(frozen=True)
class Figure:
    """One run of the load generator; `cpu_us` is what the server's process spent on a request."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True)
class Server:
    """One of the three, with its worker processes."""

    port: int
    family: tuple[psutil.Process, ...]

    def cpu_seconds(self) -> float:
        return float(sum(sum(member.cpu_times()[:2]) for member in self.family))


def main(arguments: Sequence[str] = ()) -> int:
    """Measure and print; 1 when a claim was missed, 2 when nginx or wrk is not there."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=4, help="length of each run")
    options.add_argument("--rounds", type=int, default=3, help="the median of so many runs counts")
    given = options.parse_args(arguments)
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        print(
            f"{' and '.join(missing)} not found. On Debian or Ubuntu: apt-get install nginx-light wrk", file=sys.stderr
        )
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colonnade-bench-")))
        folder.chmod(0o755)  # nginx's worker runs as another user when we are root
        servers = _start(stack, folder)
        busy_percent = psutil.cpu_percent(1.0, percpu=True)[PROXY_CORE]
        figures = _measure(servers, (folder / "key").read_text().strip(), given.seconds, given.rounds)
    return _report(figures, busy_percent)


def _start(stack: ExitStack, folder: Path) -> dict[str, Server]:
    ports = {name: free_port() for name in ("upstream", "nginx", "gateway")}
    (folder / "upstream.py").write_text(UPSTREAM)
    upstream = [sys.executable, "-m", "uvicorn", "upstream:app", "--app-dir", str(folder)]
    upstream += ["--port", str(ports["upstream"]), "--no-access-log", "--log-level", "error"]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=ports["nginx"], upstream=ports["upstream"]))
    home = stack.enter_context(tempfile.TemporaryDirectory(prefix="colonnade-bench-pg-"))
    postgres = stack.enter_context(Postgres(Path(home)))
    environment = _gateway_environment(folder, postgres.url, ports)
    gateway = [sys.executable, "-m", "gateway"]
    for command in (["migrate"], ["create-key", "--name", "bench", "--role", "viewer", "--out", str(folder / "key")]):
        subprocess.run([*gateway, *command], check=True, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    started = {
        "upstream": _process(upstream, LOAD_CORES[0], ports["upstream"]),
        "nginx": _process(["nginx", "-c", str(config)], PROXY_CORE, ports["nginx"]),
        "gateway": _process([*gateway, "serve"], PROXY_CORE, ports["gateway"], environment),
    }
    return {name: stack.enter_context(process) for name, process in started.items()}


def _gateway_environment(folder: Path, database_url: str, ports: dict[str, int]) -> dict[str, str]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    (folder / "trust.json").write_text(json.dumps({"gateway": {"public_key": public, "scopes": ["*"]}}))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return os.environ | {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_TRUST_FILE": str(folder / "trust.json"),
        "GATEWAY_SIGNING_KEY_FILE": str(folder / "key.pem"),
        "GATEWAY_CURSOR_SECRET": "throwaway cursor secret",
        "GATEWAY_KEY_PEPPER": "throwaway pepper of a bench",
        "GATEWAY_BIND_PORT": str(ports["gateway"]),
        "GATEWAY_SERVICE_URLS": json.dumps({"inventory": f"http://127.0.0.1:{ports['upstream']}"}),
        "GATEWAY_KEY_LIMIT": "10000000",  # counted and leased as any limit is, but not reached
    }


@contextmanager
def _process(arguments: list[str], core: int, port: int, environment: dict[str, str] | None = None) -> Iterator[Server]:
    process = subprocess.Popen(arguments, env=environment, cwd=ROOT)
    psutil.Process(process.pid).cpu_affinity([core])
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{arguments[0]} did not start")
            time.sleep(0.05)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.cpu_affinity([core])  # nginx's worker
        yield Server(port, tuple(family))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def _measure(servers: dict[str, Server], key: str, seconds: int, rounds: int) -> dict[str, dict[int, list[Figure]]]:
    figures: dict[str, dict[int, list[Figure]]] = {name: {CONNECTIONS: [], 1: []} for name in servers}
    for name, server in servers.items():
        _check(name, server.port, key)
        _load(server, key, CONNECTIONS, 1)
    for _ in range(rounds):  # in turns, so that a noisy minute meets all three
        for name, server in servers.items():
            for connections in (CONNECTIONS, 1):
                figures[name][connections].append(_load(server, key, connections, seconds))
    return figures


def _check(name: str, port: int, key: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/assets", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own address
        if response.status != 200 or b"support-agent" not in response.read():
            raise SystemExit(f"{name} does not answer as it should")
    if name == "gateway":
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/assets", timeout=10)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        raise SystemExit("the gateway let somebody in without a key")


def _load(server: Server, key: str, connections: int, seconds: int) -> Figure:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Authorization: Bearer {key}"]
    command.append(f"http://127.0.0.1:{server.port}/v1/assets?limit=5")
    before = server.cpu_seconds()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    psutil.Process(process.pid).cpu_affinity(LOAD_CORES[-1:])
    output, _ = process.communicate(timeout=seconds + 30)
    spent = server.cpu_seconds() - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"not every request was answered:\n{output}")
    rate, requests = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    assert rate is not None
    assert requests is not None
    p50, p99 = _milliseconds(output, "50%"), _milliseconds(output, "99%")
    return Figure(float(rate[1]), p50, p99, spent / int(requests[1]) * 1e6)


def _milliseconds(output: str, mark: str) -> float:
    found = re.search(rf"{mark}\s+([\d.]+)(us|ms|s)\b", output)
    assert found is not None
    unit: float = {"us": 0.001, "ms": 1.0, "s": 1000.0}[str(found[2])]
    return float(found[1]) * unit


def _report(figures: dict[str, dict[int, list[Figure]]], busy_percent: float) -> int:
    def median(name: str, connections: int, part: str) -> float:
        return float(statistics.median(getattr(figure, part) for figure in figures[name][connections]))

    runs = len(figures["nginx"][1])
    print(f"{len(CORES)} cores; {CONNECTIONS} connections for requests/s, one for latency; medians of {runs} runs")
    print(f"{'':<10}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'CPU us each':>13}{'p50 ms, one connection':>26}")
    for name in ("upstream", "nginx", "gateway"):
        per_second, cpu = median(name, CONNECTIONS, "per_second"), median(name, CONNECTIONS, "cpu_us")
        p50, p99 = median(name, CONNECTIONS, "p50_ms"), median(name, CONNECTIONS, "p99_ms")
        alone = median(name, 1, "p50_ms")
        print(f"{name:<10}{per_second:>12.0f}{p50:>10.2f}{p99:>10.2f}{cpu:>13.1f}{alone:>26.3f}")
    ratio = median("gateway", CONNECTIONS, "per_second") / median("nginx", CONNECTIONS, "per_second")
    added = median("gateway", 1, "p50_ms") - median("upstream", 1, "p50_ms")
    print(f"gateway / nginx requests/s: {ratio:.2f} (claim: at least 0.50)  {'held' if ratio >= 0.5 else 'MISSED'}")
    print(f"added by the gateway at p50: {added:.3f} ms (claim: at most 1.5)  {'held' if added <= 1.5 else 'MISSED'}")
    if busy_percent > 15:
        print(
            f"before, other things kept the proxies' core {busy_percent:.0f} % busy: requests/s and times are too bad"
        )
    return 0 if ratio >= 0.5 and added <= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

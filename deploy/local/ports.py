"""Which part of the stack listens where: everything on 127.0.0.1, counted from the gateway's port."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

SERVICES = ("inventory", "risk", "detection", "incidents", "governance", "metrics")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one stack; `base` is the gateway's (COLONNADE_PORT)."""

    base: int

    @property
    def gateway(self) -> int:
        return self.base

    def service(self, name: str) -> int:
        return self.base + 1 + SERVICES.index(name)

    @property
    def postgres(self) -> int:
        return self.base + 7

    @property
    def nats(self) -> int:
        return self.base + 8

    @property
    def nats_monitoring(self) -> int:
        return self.base + 9

    @property
    def gateway_metrics(self) -> int:
        return self.base + 10


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port, or holds it so that we could not."""
    with contextlib.closing(socket.socket()) as probe:
        # As servers do: without it a port whose last connections are still closing would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False

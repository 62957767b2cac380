"""A service small enough to start in a tenth of a second, for tests of what keeps services running.

It stands where a service or the gateway would: `serve` listens on its port and answers 200 to everything, `create-key`
writes the key file. What it is called it learns from its environment, as services do. `stack` runs a whole stack of
these on the real PostgreSQL and NATS.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

COMPONENTS = dict.fromkeys(("inventory", "risk", "gateway"), "tests.local.standin")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing per request."""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def serve() -> None:
    name, port = next((key, value) for key, value in os.environ.items() if key.endswith("_BIND_PORT"))
    if "standin-fails" in os.environ.values():
        print("told to fail", flush=True)
        sys.exit(3)
    with Server(("127.0.0.1", int(port)), Answer) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"{name} {port}", flush=True)
        server.serve_forever(poll_interval=0.02)
    print("stopped", flush=True)


def run_stack() -> None:
    from deploy.local import cli, settings, stack  # here, so that `serve` starts without them
    from deploy.local.process import StartError

    try:
        loaded = settings.load()
        cli.log_to(loaded.home / "logs" / "stack.log")
        stack.run(loaded, COMPONENTS, preload=sys.argv[2:])
    except StartError as error:
        sys.exit(f"colonnade: {error}")


def main() -> None:
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "create-key":
        Path(sys.argv[sys.argv.index("--out") + 1]).write_text("cln_standin\n")
    elif sys.argv[1] == "stack":
        run_stack()


if __name__ == "__main__":
    main()

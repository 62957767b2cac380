"""A service small enough to start in a tenth of a second, for tests of what keeps services running.

It stands where a service or the gateway would: `serve` listens on its port and answers 200 to everything, `create-key`
writes the key file. What it is called it learns from its environment, as services do.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing per request."""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def main() -> None:
    name, port = next((key, value) for key, value in os.environ.items() if key.endswith("_BIND_PORT"))
    if sys.argv[1] == "create-key":
        Path(sys.argv[sys.argv.index("--out") + 1]).write_text("cln_standin\n")
        return
    print(f"{name} listens on {port}", flush=True)
    with Server(("127.0.0.1", int(port)), Answer) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()

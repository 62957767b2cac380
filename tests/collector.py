"""A small OTLP/HTTP collector that keeps what it is sent, for tests of traces."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Runs in threads of its own; `url` is what exporters are pointed at."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[str, str]]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._keep(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _keep(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._spans.setdefault(span.trace_id.hex(), []).append((names[0], span.name))

    def services_of(self, trace_id: str) -> list[str]:
        """The services that took part in a trace, as far as their spans have arrived."""
        return [service for service, _ in self._spans.get(trace_id, [])]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

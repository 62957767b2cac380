"""An application as others write them: the OpenAI client, an instrumentation library, and OTLP to wherever it is told.

Run by test_instrumented.py as `python -m tests.instrumented_app <library> <conversations>`: the trace ids.
Everything else is in the environment variables that OpenTelemetry and the client read by themselves.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def instrument(library: str) -> None:
    if library == "genai-openai":
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor  # type: ignore[assignment]
    OpenAIInstrumentor().instrument()


def converse(client: OpenAI, questions: list[str]) -> None:
    """One conversation: each question is asked with all that was said before, as chat applications do."""
    messages: list[Any] = [{"role": "system", "content": "You answer questions about a museum."}]
    for question in questions:
        messages.append({"role": "user", "content": question})
        answer = client.chat.completions.create(model="gpt-5", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})


def main(library: str, conversations: list[list[str]]) -> list[str]:
    spans = TracerProvider()
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(compression=Compression.Gzip)))
    trace.set_tracer_provider(spans)
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(compression=Compression.Gzip)))
    set_logger_provider(logs)
    instrument(library)
    client = OpenAI()
    traces = []
    for questions in conversations:
        with trace.get_tracer("museum").start_as_current_span("answer a visitor") as span:
            traces.append(f"{span.get_span_context().trace_id:032x}")
            converse(client, questions)
    spans.shutdown()
    logs.shutdown()
    return traces


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))

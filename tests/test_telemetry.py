"""The page on telemetry names the metrics that there are, with their types and labels."""

import re
from pathlib import Path

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

import gateway.durations
import services.detection.api.otlp
import services.detection.application.inspections
import services.detection.application.sessions
import services.detection.stream.intake
import services.detection.stream.worker
import shared.telemetry

PAGE = Path(__file__).parent.parent / "docs" / "telemetry.md"
SOURCES = (
    shared.telemetry,
    services.detection.application.inspections,
    services.detection.api.otlp,
    services.detection.stream.intake,
    services.detection.application.sessions,
    services.detection.stream.worker,
)


def test_every_metric_is_on_the_page_with_its_type_and_labels() -> None:
    durations = gateway.durations.Durations()
    durations.observe("GET", "inventory", 200, 0.1)
    registered = {}
    for metric in (value for source in SOURCES for value in vars(source).values()):
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            registered[family.name + suffix] = (family.type, ", ".join(metric._labelnames))
    (family,) = durations.collect()
    registered[family.name] = (family.type, ", ".join(name for name in family.samples[0].labels if name != "le"))
    rows = re.findall(r"^\| `(colonnade_\w+)` \| (\w+) \| ([\w, ]*?) ?\|", PAGE.read_text(), re.MULTILINE)
    assert {name: (kind, labels) for name, kind, labels in rows} == registered
    ours = {family.name for family in prometheus_client.REGISTRY.collect() if family.name.startswith("colonnade")}
    assert {name.removesuffix("_total") for name in registered} >= ours

"""Models that are graphs in protocol buffers: ONNX, TensorFlow's SavedModel, Core ML. Weights are passed over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from services.inventory.modelfiles import keras
from services.inventory.modelfiles.protobuf import BYTES, Field, Message
from services.inventory.modelfiles.report import Broken, Scan, quoted
from services.inventory.modelfiles.source import Source
from services.inventory.modelfiles.tars import leads_out

NODES_LIMIT = 2_000_000
_ONNX_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft",
     "com.microsoft.nchwc", "com.microsoft.dml", "com.microsoft.experimental", "org.pytorch.aten",
     "com.ms.internal.nhwc"}
)  # fmt: skip
_RUNS_PYTHON = frozenset(
    {"PyOp", "PythonOp", "PyCustomOp", "ATen", "TorchScript", "AzureTextToText", "AzureAudioToText"}
)
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


def scan_onnx(scan: Scan, source: Source, where: str) -> None:
    """Raises Broken when it is no ONNX model."""
    model = Message(scan, source)
    walk = _Onnx(scan, where)
    seen: set[int] = set()
    for field in model.fields():
        seen.add(field.number)
        if field.number == 7:
            walk.graph(model.within(field))
        elif field.number == 25:
            walk.function(model.within(field))
        elif field.number == 20:
            info = model.within(field)
            for part in info.fields():
                if part.number in (1, 2):
                    walk.graph(info.within(part))
        elif field.number == 8:
            opset = model.within(field)
            for part in opset.fields():
                if part.number == 1:
                    walk.domain(opset.text(part, 1_024))
        elif field.number not in (1, 2, 3, 4, 5, 6, 14, 26):
            raise Broken(f"field {field.number} is none of a model")
        if field.number == 2 and field.kind == BYTES:
            scan.report.facts.setdefault("producer", model.text(field, 1_024)[:100])
    if not {1, 7} <= seen:
        raise Broken("no version and graph: not an ONNX model")
    scan.format("onnx")


class _Onnx:
    def __init__(self, scan: Scan, where: str) -> None:
        self.scan, self.where = scan, where
        self.nodes = 0
        self._judged: set[str] = set()

    def domain(self, domain: str) -> None:
        if domain not in _ONNX_DOMAINS and domain not in self._judged:
            self._judged.add(domain)
            self.scan.suspicious(
                "custom_operators",
                self.where,
                f"operators of the domain {quoted(domain)}: a library of its own runs them",
            )

    def graph(self, graph: Message) -> None:
        for field in graph.fields():
            if field.number == 1:
                self.node(graph.within(field))
            elif field.number == 5:
                self.tensor(graph.within(field))
            elif field.number == 15:
                sparse = graph.within(field)
                for part in sparse.fields():
                    if part.number in (1, 2):
                        self.tensor(sparse.within(part))

    def function(self, function: Message) -> None:
        for field in function.fields():
            if field.number == 7:
                self.node(function.within(field))
            elif field.number == 11:
                for part in (attribute := function.within(field)).fields():
                    self.attribute_part(attribute, part)

    def node(self, node: Message) -> None:
        self.nodes += 1
        if self.nodes > NODES_LIMIT:
            raise Broken(f"more than {NODES_LIMIT} nodes")
        for field in node.fields():
            if field.number == 4:
                operator = node.text(field, 1_024)
                if operator in _RUNS_PYTHON:
                    self.scan.unsafe(
                        "code_operator", f"{self.where}+{field.start:#x}", f"the operator {operator} runs code"
                    )
            elif field.number == 7:
                self.domain(node.text(field, 1_024))
            elif field.number == 5:
                attribute = node.within(field)
                for part in attribute.fields():
                    self.attribute_part(attribute, part)

    def attribute_part(self, attribute: Message, part: Field) -> None:
        if part.number in (5, 10):
            self.tensor(attribute.within(part))
        elif part.number in (6, 11):
            self.graph(attribute.within(part))
        elif part.number in (22, 23):
            sparse = attribute.within(part)
            for one in sparse.fields():
                if one.number in (1, 2):
                    self.tensor(sparse.within(one))

    def tensor(self, tensor: Message) -> None:
        for field in tensor.fields():
            if field.number == 13:
                entry = tensor.within(field)
                texts = {part.number: entry.text(part, 8_192) for part in entry.fields() if part.number in (1, 2)}
                if texts.get(1) == "location":
                    self._location(texts.get(2, ""), field.start)

    def _location(self, location: str, at: int) -> None:
        if leads_out(location) or _ADDRESS.match(location) or "\0" in location:
            self.scan.unsafe(
                "external_data",
                f"{self.where}+{at:#x}",
                f"its weights are read from {quoted(location)}, outside its folder",
            )
        else:
            self.scan.report.facts.setdefault("external_data", location[:200])


# -- TensorFlow

_REACHES = frozenset(
    """ReadFile WriteFile MatchingFiles PyFunc PyFuncStateless EagerPyFunc WholeFileReader WholeFileReaderV2
    TextLineReader TextLineReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TFRecordReader TFRecordReaderV2
    IdentityReader IdentityReaderV2 LMDBReader LMDBDataset TextLineDataset TFRecordDataset TFRecordDatasetV2
    FixedLengthRecordDataset FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 SqlDataset LoadDataset SaveDataset
    SaveDatasetV2 SnapshotDataset SnapshotDatasetV2 DatasetFromGraph ImmutableConst DebugIdentity DebugIdentityV2
    DebugIdentityV3 DebugNumericSummary DebugNumericSummaryV2 Copy CopyHost RpcCall RpcServer RpcServerStart RpcClient
    TryRpc Rpc DecodeProtoV2 EncodeProto PrintV2 Save SaveSlices CreateSummaryFileWriter CreateSummaryDbWriter
    WriteGraphSummary RemoteCall RegisterDataset DataServiceDataset BigtableClient FileSystemSetConfiguration
    GenerateBigQueryReaderPartitions BigQueryReader ExperimentalLMDBDataset KafkaDataset""".split()
)
_TOLD = frozenset({"PrintV2", "Save", "SaveSlices", "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3"})
_READS = re.compile(r".*(?:ReadFile|WriteFile|PyFunc|FromFile|ToFile|LoadLibrary|Subprocess|Exec(?:ute)?Shell)\w*")
_FROM_ASSET = re.compile(r"InitializeTableFromTextFile(?:V2)?")


def scan_saved_model(scan: Scan, source: Source, where: str) -> None:
    """saved_model.pb. Raises Broken when it is none."""
    model = Message(scan, source)
    seen: set[int] = set()
    operators: set[str] = set()
    for field in model.fields():
        seen.add(field.number)
        if field.number == 2:
            _meta_graph(scan, model.within(field), where, operators)
        elif field.number != 1:
            raise Broken(f"field {field.number} is none of a SavedModel")
    if 2 not in seen:
        raise Broken("no graph: not a SavedModel")
    scan.format("tensorflow saved model")


def scan_graph_def(scan: Scan, source: Source, where: str) -> None:
    """A frozen graph (.pb, GraphDef). Raises Broken when it is none."""
    _graph_def(scan, Message(scan, source), where, set())
    scan.format("tensorflow graph")


def _meta_graph(scan: Scan, meta: Message, where: str, operators: set[str]) -> None:
    for field in meta.fields():
        if field.number == 2:
            _graph_def(scan, meta.within(field), where, operators)
        elif field.number == 7:
            graph = meta.within(field)
            for part in graph.fields():
                if part.number == 1:
                    _saved_object(scan, graph.within(part), where)


def _graph_def(scan: Scan, graph: Message, where: str, operators: set[str]) -> None:
    nodes = 0
    for field in graph.fields():
        if field.number == 1:
            nodes += 1
            _node_def(scan, graph.within(field), where, operators)
        elif field.number == 2:
            library = graph.within(field)
            for part in library.fields():
                if part.number == 1:
                    function = library.within(part)
                    for one in function.fields():
                        if one.number == 3:
                            _node_def(scan, function.within(one), where, operators)
        elif field.number not in (3, 4, 5):
            raise Broken(f"field {field.number} is none of a graph")


def _node_def(scan: Scan, node: Message, where: str, operators: set[str]) -> None:
    for field in node.fields():
        if field.number > 7:
            raise Broken(f"field {field.number} is none of a node")
        if field.number != 2:
            continue
        operator = node.text(field, 1_024)
        if operator in operators:
            return
        if len(operators) < 10_000:
            operators.add(operator)
        place = f"{where}+{field.start:#x}"
        if operator in _TOLD:
            scan.suspicious("reaching_operator", place, f"the operator {operator} writes out what passes through it")
        elif operator in _REACHES or _READS.fullmatch(operator):
            scan.unsafe(
                "reaching_operator", place, f"the operator {quoted(operator)} runs code or reaches files or addresses"
            )
        return


def _saved_object(scan: Scan, node: Message, where: str) -> None:
    for field in node.fields():
        if field.number == 4:
            user = node.within(field)
            for part in user.fields():
                if part.number == 3:
                    _metadata(scan, user.text(part, 16 << 20), f"{where}+{part.start:#x}")


def scan_keras_metadata(scan: Scan, source: Source, where: str) -> None:
    """keras_metadata.pb beside a SavedModel: what Keras makes of each node again, as JSON. Raises Broken."""
    metadata = Message(scan, source)
    for field in metadata.fields():
        if field.number != 1:
            raise Broken(f"field {field.number} is none of Keras' metadata")
        node = metadata.within(field)
        for part in node.fields():
            if part.number == 4:
                _metadata(scan, node.text(part, 16 << 20), f"{where}+{part.start:#x}")
    scan.format("keras metadata")


def _metadata(scan: Scan, text: str, where: str) -> None:
    if not text.strip():
        return
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        scan.unreadable("broken_metadata", where, "metadata that is no JSON")
        return
    keras.scan_config(scan, config, where)


# -- Core ML

_CUSTOM_MODEL = 555
_PIPELINES = (200, 201, 202)
_NETWORKS = (303, 403, 500)


def scan_coreml(scan: Scan, source: Source, where: str) -> None:
    """A .mlmodel. Raises Broken when it is none."""
    seen = _coreml(scan, Message(scan, source), where)
    if 1 not in seen:
        raise Broken("no specification version: not a Core ML model")
    scan.format("coreml")


def _coreml(scan: Scan, model: Message, where: str) -> set[int]:
    seen: set[int] = set()
    for field in model.fields():
        seen.add(field.number)
        if field.number == _CUSTOM_MODEL:
            scan.suspicious(
                "custom_code", f"{where}+{field.start:#x}", "a custom model: a class of the application runs it"
            )
        elif field.number in _PIPELINES:
            _models_in(scan, model.within(field), where)
        elif field.number in _NETWORKS:
            network = model.within(field)
            for part in network.fields():
                if part.number == 1:
                    layer = network.within(part)
                    if any(one.number == 500 for one in layer.fields()):
                        scan.suspicious(
                            "custom_code",
                            f"{where}+{part.start:#x}",
                            "a custom layer: a class of the application runs it",
                        )
    return seen


def _models_in(scan: Scan, pipeline: Message, where: str) -> None:
    for field in pipeline.fields():
        if field.number != 1 or field.kind != BYTES:
            continue
        inner = pipeline.within(field)
        first = next(iter(inner.fields()), None)
        # A classifier's pipeline holds a pipeline first, and that the models.
        if first is not None and first.number == 1 and first.kind == BYTES:
            _models_in(scan, inner, where)
        else:
            _coreml(scan, inner, where)


PROTOBUF_READERS: tuple[Callable[[Scan, Source, str], None], ...] = (scan_saved_model, scan_onnx, scan_coreml)

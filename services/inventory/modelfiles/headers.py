"""Formats that hold numbers behind a header: safetensors and GGUF. Nothing in them runs, if they are what they say."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any

from services.inventory.modelfiles.report import Broken, Scan, quoted
from services.inventory.modelfiles.source import Reader, Source
from services.inventory.modelfiles.templates import TEMPLATE_LIMIT, scan_template

SAFETENSORS_HEADER_LIMIT = 25 << 20
TENSORS_LIMIT = 1_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_SPACE = " \t\r\n"


def looks_like_safetensors(source: Source) -> bool:
    head = source.read(0, 9)
    return len(head) == 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= source.size - 8


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Broken("a name stands twice in the header")
    return made


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """The header's entries, one at a time: millions of small objects are never held together. Raises Broken."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs)

    def space(at: int) -> int:
        while text[at : at + 1] and text[at] in _SPACE:
            at += 1
        return at

    at = space(1)
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            key, at = decoder.raw_decode(text, space(at))
            at = space(at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise Broken("the header is no JSON object")
            value, at = decoder.raw_decode(text, space(at + 1))
            yield key, value
            at = space(at)
            if text[at : at + 1] != ",":
                break
            at += 1
        if text[at : at + 1] != "}":
            raise Broken("the header is no JSON object")
        at += 1
    if text[at:].strip(_SPACE + "\0"):
        raise Broken("there is more behind the header's object")


def scan_safetensors(scan: Scan, source: Source, where: str) -> None:
    """Every tensor's place within the file, of which none may overlap another. Raises Broken."""
    length = int.from_bytes(source.read(0, 8), "little")
    if length > SAFETENSORS_HEADER_LIMIT:
        raise Broken(f"a header of {length} bytes")
    scan.spend(length)
    try:
        text = source.read(8, length).decode("utf-8")
    except UnicodeDecodeError:
        raise Broken("the header is not UTF-8") from None
    room = source.size - 8 - length
    starts, ends = array("Q"), array("Q")
    names: set[int] = set()
    parameters = 0
    try:
        for key, value in _entries(text):
            if hash(key) in names:
                raise Broken(f"{quoted(key)} stands twice in the header")
            names.add(hash(key))
            if len(names) > TENSORS_LIMIT:
                raise Broken(f"more than {TENSORS_LIMIT} tensors")
            if key == "__metadata__":
                _metadata(scan, value, where)
                continue
            start, end, count = _tensor(key, value, room)
            starts.append(start)
            ends.append(end)
            parameters += count
    except (json.JSONDecodeError, RecursionError) as error:
        raise Broken(f"the header is no JSON: {str(error)[:100]}") from None
    _places(scan, where, starts, ends, room, 8 + length)
    scan.format("safetensors")
    scan.report.facts["tensors"] = len(starts)
    scan.report.facts["parameters"] = parameters


def _metadata(scan: Scan, value: Any, where: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Broken("__metadata__ is no object of texts")
    for name in ("format", "modelspec.architecture", "modelspec.title", "modelspec.license", "ss_base_model_version"):
        if isinstance(value.get(name), str):
            scan.report.facts.setdefault(name, value[name][:200])


def _tensor(key: str, value: Any, room: int) -> tuple[int, int, int]:
    try:
        kind, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise Broken(f"{quoted(key)} is described wrongly") from None
    numbers = (*shape, start, end) if isinstance(shape, list) and len(shape) <= 32 else (None,)
    if not all(type(one) is int and 0 <= one < 1 << 62 for one in numbers) or not isinstance(kind, str):
        raise Broken(f"{quoted(key)} is described wrongly")
    count = 1
    for size in shape:
        count *= size
    bits = _BITS.get(kind)
    if not start <= end <= room:
        raise Broken(f"{quoted(key)} lies outside the file")
    if bits is not None and count * bits != (end - start) * 8:
        raise Broken(f"{quoted(key)} has another size than its shape")
    if bits is None:
        raise Broken(f"{quoted(key)} is of the type {quoted(kind)}, which is not known")
    return start, end, count


def _places(scan: Scan, where: str, starts: array[int], ends: array[int], room: int, base: int) -> None:
    at = 0
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        if starts[index] < at:
            raise Broken("tensors overlap")
        if starts[index] > at:
            scan.suspicious(
                "hidden_data", f"{where}+{base + at:#x}", f"{starts[index] - at} bytes that belong to no tensor"
            )
        at = ends[index]
    if at < room:
        scan.suspicious("trailing_data", f"{where}+{base + at:#x}", f"{room - at} bytes behind the last tensor")


# -- GGUF

_GGUF_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_GGUF_KEYS = {
    "general.architecture": "architecture", "general.name": "title", "general.license": "license",
    "general.basename": "basename", "general.size_label": "size_label", "general.organization": "organization",
    "general.base_model.0.repo_url": "base_model_url", "general.base_model.0.name": "base_model_name",
    "general.version": "version", "general.quantized_by": "quantized_by", "general.source.repo_url": "source_url",
    "general.repo_url": "source_url",
}  # fmt: skip
# Items of a block and bytes of it, by tensor type: enough to know where each tensor ends.
_GGUF_TYPES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


def scan_gguf(scan: Scan, source: Source, where: str) -> None:
    """The header, every key and every tensor's place. Raises Broken."""
    reader = Reader(scan, source, 4)
    raw = reader.take(4)
    order = "<" if raw[1:] == b"\0\0\0" else ">"
    (version,) = struct.unpack(order + "I", raw)
    if version not in (2, 3):
        raise Broken(f"version {version} is not read")
    scan.format("gguf")
    _Gguf(scan, reader, where, order).walk()


class _Gguf:
    def __init__(self, scan: Scan, reader: Reader, where: str, order: str) -> None:
        self.scan, self.reader, self.where, self.order = scan, reader, where, order
        self.alignment = 32

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        return int(struct.unpack(self.order + form, self.reader.take(size))[0])

    def text(self, limit: int) -> str | None:
        """A text; None when it is longer than what is kept."""
        size = self.number("Q")
        if size > self.reader.source.size:
            raise Broken("a text is longer than the file")
        if size > limit:
            self.reader.skip(size)
            return None
        return self.reader.take(size).decode("utf-8", "replace")

    def walk(self) -> None:
        tensors, keys = self.number("Q"), self.number("Q")
        size = self.reader.source.size
        if tensors > min(size // 24, TENSORS_LIMIT) or keys > min(size // 12, TENSORS_LIMIT):
            raise Broken(f"says it has {tensors} tensors and {keys} keys")
        seen: set[str] = set()
        for _ in range(keys):
            key = self.text(65_535)
            if key is None:
                raise Broken("a key that is too long")
            if key in seen:
                self.scan.suspicious("duplicate_key", self.where, f"{quoted(key)} stands twice")
            seen.add(key)
            self.value(key, self.number("I"), 0)
        self.tensors(tensors)

    def value(self, key: str, kind: int, depth: int) -> None:
        if kind in _GGUF_SCALARS:
            raw = self.reader.take(_GGUF_SCALARS[kind])
            if key == "general.alignment" and kind == 4:
                (self.alignment,) = struct.unpack(self.order + "I", raw)
                if not 1 <= self.alignment <= 1 << 20 or self.alignment & (self.alignment - 1):
                    raise Broken(f"an alignment of {self.alignment}")
        elif kind == _STRING:
            at = self.reader.at
            text = self.text(TEMPLATE_LIMIT)
            if "template" in key:
                if text is None:
                    self.scan.suspicious("too_large", self.where, f"{quoted(key)} is too long to be read")
                else:
                    scan_template(self.scan, text, f"{self.where}/{key[:60]}+{at:#x}")
            elif text is not None and key in _GGUF_KEYS:
                self.scan.report.facts.setdefault(_GGUF_KEYS[key], text[:300])
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if depth > 4 or count > self.reader.source.size:
                raise Broken("an array that is too long or too deep")
            if inner in _GGUF_SCALARS:
                self.reader.skip(count * _GGUF_SCALARS[inner])
            elif inner in (_STRING, _ARRAY):
                for _ in range(count):
                    if inner == _STRING and "template" not in key:
                        self.skip_text()
                    else:
                        self.value(key, inner, depth + 1)
            else:
                raise Broken(f"values of type {inner}")
        else:
            raise Broken(f"a value of type {kind}")

    def skip_text(self) -> None:
        size = self.number("Q")
        if size > self.reader.source.size:
            raise Broken("a text is longer than the file")
        if size <= 4_096:
            self.reader.take(size)
        else:
            self.reader.skip(size)

    def tensors(self, count: int) -> None:
        ends, parameters = 0, 0
        unknown = False
        names: set[int] = set()
        for _ in range(count):
            name = self.text(1_024)
            dimensions = self.number("I")
            if name is None or dimensions > 8:
                raise Broken("a tensor is described wrongly")
            if hash(name) in names:
                self.scan.suspicious("duplicate_key", self.where, f"the tensor {quoted(name)} stands twice")
            names.add(hash(name))
            items = 1
            for _ in range(dimensions):
                items *= self.number("Q")
            kind, offset = self.number("I"), self.number("Q")
            if items >= 1 << 62 or offset % self.alignment:
                raise Broken(f"the tensor {quoted(name)} is described wrongly")
            parameters += items
            if kind in _GGUF_TYPES:
                block, width = _GGUF_TYPES[kind]
                ends = max(ends, offset + items // block * width)
            else:
                unknown = True
                ends = max(ends, offset)
        base = (self.reader.at + self.alignment - 1) // self.alignment * self.alignment
        size = self.reader.source.size
        facts = self.scan.report.facts
        facts["tensors"], facts["parameters"] = count, parameters
        if unknown:
            self.scan.unreadable("unknown_dtype", self.where, "tensors of a type that is not known")
        if count and base + ends > size:
            raise Broken("a tensor lies outside the file")
        if size > base + ends + self.alignment and not unknown:
            self.scan.suspicious(
                "trailing_data", f"{self.where}+{base + ends:#x}", "there is more behind the last tensor"
            )

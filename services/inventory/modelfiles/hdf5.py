"""HDF5, as far as a model file needs it, read without the HDF5 library.

That library's parser is C with a long history of overflows on hostile files; what is wanted of a Keras file is little:
the attributes of its groups (`model_config` is one), and whether anything in it leads out of the file (external links,
datasets whose data lie in other files). Groups in the old form (symbol tables) and the new compact one are walked; the
new dense forms (fractal heaps) are not understood, and said to be so. Format: HDF5 File Format Specification 3.0.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from services.inventory.modelfiles import keras
from services.inventory.modelfiles.report import Broken, Scan, quoted
from services.inventory.modelfiles.source import Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OBJECTS_LIMIT = 200_000
ATTRIBUTE_LIMIT = 32 << 20
_HEADER_LIMIT = 1 << 20
_UNDEFINED = 0xFFFFFFFFFFFFFFFF
_USER_BLOCKS = (0, 512, 1024, 2048, 4096, 8192, 16384)
_CONFIGS = frozenset({"model_config", "training_config", "layer_config", "vocabulary"})


def begins_at(source: Source) -> int | None:
    """Where the superblock stands: at the start, or behind a block that belongs to the user."""
    return next((at for at in _USER_BLOCKS if source.read(at, 8) == SIGNATURE), None)


def scan_hdf5(scan: Scan, source: Source, where: str) -> None:
    """Raises Broken when it is no HDF5 file, or one that is not understood."""
    start = begins_at(source)
    if start is None:
        raise Broken("no superblock")
    scan.format("hdf5")
    if start:
        scan.suspicious("hidden_data", where, f"{start} bytes stand before the file's own start")
    _File(scan, source, where, start).walk()


class _File:
    def __init__(self, scan: Scan, source: Source, where: str, start: int) -> None:
        self.scan, self.source, self.where, self.start = scan, source, where, start
        version = source.read(start + 8, 1)[:1]
        self.base = start
        if version in (b"\0", b"\x01"):
            sizes = source.read(start + 13, 2)
            extra = 4 if version == b"\x01" else 0
            self._sizes(sizes)
            self.base = self._number(start + 24 + extra, 8)
            end = self._number(start + 40 + extra, 8)
            # The root's symbol table entry: where its name is, then its header.
            self.root = self._number(start + 64 + extra, 8)
        elif version in (b"\x02", b"\x03"):
            self._sizes(source.read(start + 9, 2))
            self.base = self._number(start + 12, 8)
            end = self._number(start + 28, 8)
            self.root = self._number(start + 36, 8)
        else:
            raise Broken("a version of HDF5 that is not known")
        if self.base not in (0, start):
            scan.suspicious("odd_base", where, f"its addresses are counted from {self.base}")
        if end != _UNDEFINED:
            size = source.size
            if end > size and end + start > size:
                scan.unreadable("broken_hdf5", where, "it ends too early")
            elif size > max(end, end + start):
                scan.suspicious("trailing_data", f"{where}+{end:#x}", "there is more behind the file's own end")

    @staticmethod
    def _sizes(sizes: bytes) -> None:
        if sizes != b"\x08\x08":
            raise Broken("addresses of other than eight bytes")

    def _number(self, at: int, count: int) -> int:
        raw = self.source.read(at, count)
        if len(raw) < count:
            raise Broken("it ends too early")
        return int.from_bytes(raw, "little")

    def _read(self, address: int, count: int) -> bytes:
        raw = self.source.read(self.base + address, count)
        if len(raw) < count:
            raise Broken("an address lies outside the file")
        self.scan.spend(count)
        return raw

    # -- the walk over groups

    def walk(self) -> None:
        seen: set[int] = set()
        pending = [self.root]
        while pending:
            address = pending.pop()
            if address in seen or address == _UNDEFINED:
                continue
            seen.add(address)
            if len(seen) > OBJECTS_LIMIT:
                self.scan.suspicious(
                    "too_many_objects", self.where, f"more than {OBJECTS_LIMIT} objects: not all were read"
                )
                return
            for kind, body in self.messages(address):
                pending += self._message(kind, body)

    def _message(self, kind: int, body: bytes) -> list[int]:
        """Look at one message of an object; returns addresses of objects that it leads to."""
        if kind == 0x0011 and len(body) >= 16:  # symbol table
            tree, heap = struct.unpack_from("<QQ", body)
            return self._symbol_table(tree, heap)
        if kind == 0x0006:  # link
            return self._link(body)
        if kind == 0x0002:  # link info: where dense links are
            flags = body[1] if len(body) > 1 else 0
            at = 2 + (8 if flags & 1 else 0)
            if int.from_bytes(body[at : at + 8], "little") != _UNDEFINED:
                self._not_understood("links in a fractal heap")
        elif kind == 0x0015:  # attribute info
            flags = body[1] if len(body) > 1 else 0
            at = 2 + (2 if flags & 1 else 0)
            if int.from_bytes(body[at : at + 8], "little") != _UNDEFINED:
                self._not_understood("attributes in a fractal heap")
        elif kind == 0x0007:
            self.scan.unsafe("external_data", self.where, "a dataset whose data are read from another file")
        elif kind == 0x000C:
            self._attribute(body)
        elif kind == 0x0008 and len(body) >= 2 and body[0] == 4 and body[1] == 3:
            self.scan.suspicious(
                "external_data", self.where, "a virtual dataset, which is put together from other files"
            )
        return []

    def _not_understood(self, what: str) -> None:
        self.scan.unreadable("not_understood", self.where, f"{what}: not read")

    def messages(self, address: int) -> list[tuple[int, bytes]]:
        """The header messages of an object."""
        if self._read(address, 4) == b"OHDR":
            return self._messages_v2(address)
        version, _, _, _, size = struct.unpack("<BBHII", self._read(address, 12))
        if version != 1 or size > _HEADER_LIMIT:
            raise Broken("an object's header is none")
        found: list[tuple[int, bytes]] = []
        blocks = [(address + 16, size)]
        for _ in range(1_000):
            if not blocks:
                return found
            begins, length = blocks.pop()
            if length > _HEADER_LIMIT:
                raise Broken("an object's header is too long")
            block = self._read(begins, length)
            at = 0
            while at + 8 <= len(block):
                kind, count, flags = struct.unpack_from("<HHB", block, at)
                self._keep(found, blocks, kind, block[at + 8 : at + 8 + count], flags)
                at += 8 + count
        raise Broken("an object's header does not end")

    def _messages_v2(self, address: int) -> list[tuple[int, bytes]]:
        head = self._read(address, 6)
        flags = head[5]
        at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self._read(at, width), "little")
        overhead = 6 if flags & 4 else 4
        found: list[tuple[int, bytes]] = []
        blocks = [(at + width, size)]
        for _ in range(1_000):
            if not blocks:
                return found
            begins, length = blocks.pop()
            if length > _HEADER_LIMIT:
                raise Broken("an object's header is too long")
            block = self._read(begins, length)
            if block[:4] == b"OCHK":
                block = block[4:-4]
            inside = 0
            while inside + overhead <= len(block):
                kind, count, message_flags = struct.unpack_from("<BHB", block, inside)
                inside += overhead
                self._keep(found, blocks, kind, block[inside : inside + count], message_flags)
                inside += count
        raise Broken("an object's header does not end")

    def _keep(
        self, found: list[tuple[int, bytes]], blocks: list[tuple[int, int]], kind: int, body: bytes, flags: int
    ) -> None:
        if kind == 0x0010 and len(body) >= 16:
            blocks.append(struct.unpack_from("<QQ", body))
        elif flags & 2 and kind in (0x0006, 0x000C, 0x0007):
            self._not_understood("a shared message")
        else:
            found.append((kind, body))
        if len(found) > 100_000:
            raise Broken("an object has too many messages")

    def _symbol_table(self, tree: int, heap: int) -> list[int]:
        header = self._read(heap, 32)
        if header[:4] != b"HEAP":
            raise Broken("a group has no names")
        (size,) = struct.unpack_from("<Q", header, 8)
        children: list[int] = []
        pending = [tree]
        seen: set[int] = set()
        while pending:
            address = pending.pop()
            if address in seen or len(seen) > OBJECTS_LIMIT:
                raise Broken("a group's tree has a loop")
            seen.add(address)
            head = self._read(address, 24)
            if head[:4] == b"TREE":
                count = int.from_bytes(head[6:8], "little")
                keys = self._read(address + 24, count * 16 + 8)
                pending += [int.from_bytes(keys[8 + 16 * n : 16 + 16 * n], "little") for n in range(count)]
            elif head[:4] == b"SNOD":
                count = int.from_bytes(head[6:8], "little")
                entries = self._read(address + 8, count * 40)
                for at in range(0, len(entries), 40):
                    name, child, cache = struct.unpack_from("<QQI", entries, at)
                    if cache == 2:  # a soft link: within this file
                        continue
                    children.append(child)
                    if name >= size:
                        raise Broken("a name lies outside its heap")
            else:
                raise Broken("a group's tree is none")
            if len(children) > OBJECTS_LIMIT:
                raise Broken("a group has too many members")
        return children

    def _link(self, body: bytes) -> list[int]:
        if len(body) < 3 or body[0] != 1:
            raise Broken("a link of a version that is not known")
        flags = body[1]
        at = 2
        kind = 0
        if flags & 8:
            kind = body[at]
            at += 1
        at += (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        length = int.from_bytes(body[at : at + width], "little")
        at += width
        name, rest = body[at : at + length], body[at + length :]
        if kind == 0:
            return [int.from_bytes(rest[:8], "little")]
        if kind == 64:
            self.scan.unsafe(
                "external_link", self.where, f"{quoted(name)} leads to another file: {quoted(rest[3:200])}"
            )
        elif kind != 1:
            self.scan.suspicious("unknown_link", self.where, f"{quoted(name)} is a link of type {kind}")
        return []

    # -- attributes

    def _attribute(self, body: bytes) -> None:
        version = body[0] if body else 0
        if version not in (1, 2, 3) or len(body) < 8:
            raise Broken("an attribute of a version that is not known")
        name_size, type_size, space_size = struct.unpack_from("<HHH", body, 2)
        at = 9 if version == 3 else 8
        align = 8 if version == 1 else 1
        name = body[at : at + name_size].rstrip(b"\0").decode("utf-8", "replace")
        at += -(-name_size // align) * align
        kind = body[at : at + type_size]
        at += -(-type_size // align) * align + -(-space_size // align) * align
        if name in _CONFIGS:
            if version > 1 and body[1] & 3:
                self._not_understood("an attribute of a shared type")
                return
            text = self._value(kind, body[at:])
            if text is None:
                self._not_understood(f"the attribute {name}")
            else:
                self._config(name, text)

    def _value(self, kind: bytes, data: bytes) -> bytes | None:
        """The bytes of a text attribute; None where its type is another."""
        if len(kind) < 8:
            return None
        form = kind[0] & 0x0F
        size = int.from_bytes(kind[4:8], "little")
        if form == 3:
            return data[:size].rstrip(b"\0")
        if form == 9 and kind[1] & 0x0F == 1 and len(data) >= 16:  # variable length, in a global heap
            length, heap, index = struct.unpack_from("<IQI", data)
            return self._heap_object(heap, index, length)
        return None

    def _heap_object(self, heap: int, index: int, length: int) -> bytes:
        head = self._read(heap, 16)
        size = int.from_bytes(head[8:16], "little")
        if head[:4] != b"GCOL" or length > ATTRIBUTE_LIMIT:
            raise Broken("a text lies in no heap")
        at = 16
        while at + 16 <= size:
            number, _, _, count = struct.unpack("<HHIQ", self._read(heap + at, 16))
            if number == 0:
                break
            if number == index:
                return self._read(heap + at + 16, min(count, length, ATTRIBUTE_LIMIT))
            at += 16 + (count + 7) // 8 * 8
        raise Broken("a text is not in its heap")

    def _config(self, name: str, text: bytes) -> None:
        self.scan.format("keras")
        try:
            config: Any = json.loads(text.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            self.scan.suspicious("broken_config", self.where, f"its {name} is no JSON")
            return
        keras.scan_config(self.scan, config, f"{self.where}/{name}")

"""Zip archives, read as the most lenient of loaders read them, and with distrust where readers differ.

Python's zipfile, PyTorch's miniz and Java's reader disagree on headers that do not match, broken checksums, encryption
bits, doubled names and data before the archive; scanners were deceived by each. Here every member's data is looked at
wherever either header says it lies, a mismatch is told, and what lies between members is looked at too.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from services.inventory.modelfiles.report import Broken, Exhausted, Scan, quoted
from services.inventory.modelfiles.source import CHUNK, Inflated, Part, Reader, Source

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_METHODS = {8: "deflate", 12: "bzip2"}
_NAME_LIMIT = 4_096
_CHECKED_BYTES = 64 << 20
"""Members up to this have their checksum verified."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the central directory has it."""

    name: str
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    header: int
    attributes: int
    made_on: int


def find_directory(source: Source) -> tuple[int, int, int] | None:
    """(offset, size, count) of the central directory, and nothing where there is no archive at the end."""
    tail_at = max(0, source.size - 66_000)
    tail = source.read(tail_at, 66_000)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= _END.size:
            _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
            end = tail_at + at
            if count == 0xFFFF or 0xFFFFFFFF in (size, offset):
                locator = source.read(end - 20, 20)
                if locator[:4] == b"PK\x06\x07":
                    (record_at,) = struct.unpack_from("<Q", locator, 8)
                    record = source.read(record_at, _END64.size)
                    if len(record) == _END64.size and record[:4] == b"PK\x06\x06":
                        _, _, _, _, _, _, _, count, size, offset = _END64.unpack(record)
                        end = record_at
            # Data may stand before the archive; offsets are then counted from its start or from the file's.
            for begins in (offset, end - size):
                if begins >= 0 and (source.read(begins, 4) == b"PK\x01\x02" or (count == 0 and size == 0)):
                    return begins, size, count
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return None


def entries_of(scan: Scan, source: Source, where: str, at: int, size: int) -> list[Entry]:
    """The central directory. Raises Broken or Exhausted."""
    reader = Reader(scan, source, at)
    entries: list[Entry] = []
    while reader.peek(4) == b"PK\x01\x02" and reader.at < at + size:
        (
            _, made, _, flags, method, _, _, checksum, packed, unpacked, name_size, extra_size, comment_size, _, _,
            attributes, header,
        ) = _CENTRAL.unpack(reader.take(_CENTRAL.size))  # fmt: skip
        if len(entries) >= scan.limits.members:
            raise Exhausted(f"more than {scan.limits.members} members")
        name = reader.take(name_size)
        extra = reader.take(extra_size)
        reader.skip(comment_size)
        unpacked, packed, header = _zip64(extra, unpacked, packed, header)
        text = name[:_NAME_LIMIT].decode("utf-8" if flags & 0x800 else "cp437", "replace")
        entries.append(Entry(text, flags, method, checksum, packed, unpacked, header, attributes, made >> 8))
    return entries


def _zip64(extra: bytes, *fields: int) -> tuple[int, int, int]:
    values = list(fields)
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            inside = at + 4
            for position, value in enumerate(values):
                if value == 0xFFFFFFFF and inside + 8 <= min(at + 4 + length, len(extra)):
                    (values[position],) = struct.unpack_from("<Q", extra, inside)
                    inside += 8
        at += 4 + length
    return values[0], values[1], values[2]


def scan_zip(scan: Scan, source: Source, where: str) -> list[str]:
    """Judge an archive and every member; returns the members' names.

    Members are looked at by what they hold, not by what they are called.
    """
    scan.format("zip")
    directory = find_directory(source)
    if directory is None:
        scan.suspicious("broken_zip", where, "no central directory; a lenient reader may find members all the same")
        _walk_local(scan, source, where)
        return []
    at, size, count = directory
    try:
        entries = entries_of(scan, source, where, at, size)
    except Broken as broken:
        scan.suspicious("broken_zip", where, f"the central directory is broken: {broken}")
        return []
    if count not in (len(entries), len(entries) & 0xFFFF):
        scan.suspicious("zip_mismatch", where, f"says it holds {count} members and lists {len(entries)}")
    shift = _shift(source, entries, at, size)
    covered: list[tuple[int, int]] = [(at, source.size)]
    names: dict[str, int] = {}
    for entry in entries:
        place = f"{where}/{quoted(entry.name, _NAME_LIMIT)[1:-1]}"
        _judge_name(scan, entry, place)
        folded = entry.name.replace("\\", "/").casefold()
        names[folded] = names.get(folded, 0) + 1
        if names[folded] == 2:
            scan.suspicious("duplicate_member", place, "two members have this name; readers differ in which they take")
        covered.append(_scan_member(scan, source, entry, place, shift))
    _gaps(scan, source, where, covered)
    return [entry.name for entry in entries]


def _shift(source: Source, entries: list[Entry], at: int, size: int) -> int:
    """How far members lie behind where they say, because data stands before the archive."""
    if not entries or source.read(entries[0].header, 4) == b"PK\x03\x04":
        return 0
    end = source.read(at + size, _END.size)
    if len(end) == _END.size and end[:4] == b"PK\x05\x06":
        stated = _END.unpack(end)[6]
        if source.read(entries[0].header + at - stated, 4) == b"PK\x03\x04":
            return int(at - stated)
    return 0


def _judge_name(scan: Scan, entry: Entry, place: str) -> None:
    name = entry.name.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
        scan.unsafe("path_traversal", place, "unpacking writes outside of the folder")
    elif "\\" in entry.name:
        scan.suspicious("unusual_name", place, "a backslash in a name, which some readers take for a folder")
    if entry.made_on == 3 and (entry.attributes >> 16) & 0o170000 == 0o120000:
        scan.unsafe("link_member", place, "is a symbolic link")


def _scan_member(scan: Scan, source: Source, entry: Entry, place: str, shift: int) -> tuple[int, int]:
    """Judge one member; returns the range of the file that it takes."""
    start = entry.header + shift
    raw = source.read(start, _LOCAL.size)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        scan.suspicious("zip_mismatch", place, "the central directory points to what is no member")
        return (0, 0)
    _, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = _LOCAL.unpack(raw)
    name = source.read(start + _LOCAL.size, min(name_size, _NAME_LIMIT))
    begins = start + _LOCAL.size + name_size + extra_size
    extra = source.read(start + _LOCAL.size + name_size, extra_size)
    size, packed, _ = _zip64(extra, size, packed, 0)
    described = bool(flags & 8)  # sizes and checksum follow the data
    if name.decode("utf-8" if flags & 0x800 else "cp437", "replace") != entry.name:
        scan.suspicious("zip_mismatch", place, f"is called {quoted(name)} in its own header")
        _judge_name(scan, Entry(name.decode("utf-8", "replace"), 0, 0, 0, 0, 0, 0, 0, 0), place)
    if (flags | entry.flags) & 0x2041:
        scan.suspicious("encrypted_member", place, "is marked as encrypted; readers that ignore the mark load it")
    same = (method, *((packed, size, checksum) if not described else ()))
    if same != (entry.method, *((entry.packed, entry.size, entry.checksum) if not described else ())):
        scan.suspicious("zip_mismatch", place, "its own header and the central directory say different things of it")
        for other_method, other_packed in {(method, packed or entry.packed), (entry.method, packed)}:
            if (other_method, other_packed) != (entry.method, entry.packed):
                _scan_data(scan, Part(source, begins, other_packed), other_method, None, f"{place} (own header)")
    if begins + entry.packed > source.size:
        scan.unreadable("broken_zip", place, "it ends too early")
    packed_part = Part(source, begins, max(0, min(entry.packed, source.size - begins)))
    if not entry.name.endswith("/") or entry.packed:
        _scan_data(scan, packed_part, entry.method, entry, place)
    return start, begins + entry.packed


def _scan_data(scan: Scan, packed: Source, method: int, entry: Entry | None, place: str) -> None:
    content: Source
    if method == 0:
        content = packed
    elif method in _METHODS:
        content = Inflated(scan, packed, _METHODS[method])
    else:
        scan.suspicious("unknown_compression", place, f"compression method {method} is not read")
        return
    try:
        if isinstance(content, Inflated) and entry is not None and content.size != entry.size:
            scan.suspicious("zip_mismatch", place, f"says it has {entry.size} bytes and has {content.size}")
        scan.within(content, place)
        if entry is not None and content.size <= _CHECKED_BYTES and _checksum(content) != entry.checksum:
            scan.suspicious("bad_checksum", place, "its checksum is wrong; loaders that do not verify it load it")
    except Broken as broken:
        scan.suspicious("broken_member", place, str(broken))


def _checksum(content: Source) -> int:
    checksum = at = 0
    while piece := content.read(at, CHUNK * 16):
        checksum = zlib.crc32(piece, checksum)
        at += len(piece)
    return checksum


def _gaps(scan: Scan, source: Source, where: str, covered: list[tuple[int, int]]) -> None:
    """Look at what lies before and between members, and whether members overlap."""
    at = 0
    for start, end in sorted(one for one in covered if one[1] > one[0]):
        if start < at and start > 0:
            scan.suspicious("overlapping_members", f"{where}+{start:#x}", "members share bytes, as in zip bombs")
        elif start > at and not _only_descriptor(source, at, start):
            kind = "before the first member" if at == 0 else "between members"
            scan.suspicious("hidden_data", f"{where}+{at:#x}", f"{start - at} bytes {kind} that belong to none")
            scan.within(Part(source, at, start - at), f"{where}+{at:#x}/hidden")
        at = max(at, end)


def _only_descriptor(source: Source, at: int, end: int) -> bool:
    """Whether a gap is what writers leave: a data descriptor, or zeros for alignment."""
    gap = end - at
    if gap > CHUNK:
        return False
    data = source.read(at, gap)
    if data.startswith(b"PK\x07\x08") and gap in (16, 24):
        return True
    return gap == 12 or not data.strip(b"\0")


def _walk_local(scan: Scan, source: Source, where: str) -> None:
    """Members by their own headers, one behind the other, for archives without a directory."""
    at = 0
    for _ in range(scan.limits.members):
        raw = source.read(at, _LOCAL.size)
        if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
            return
        _, _, _, method, _, _, _, packed, _, name_size, extra_size = _LOCAL.unpack(raw)
        name = source.read(at + _LOCAL.size, min(name_size, _NAME_LIMIT)).decode("cp437")
        begins = at + _LOCAL.size + name_size + extra_size
        length = packed or source.size - begins
        _scan_data(
            scan,
            Part(source, begins, min(length, source.size - begins)),
            method,
            None,
            f"{where}/{quoted(name, _NAME_LIMIT)[1:-1]}",
        )
        at = begins + max(packed, 1)

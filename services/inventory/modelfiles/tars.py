"""Tar archives: names, links and devices as unpacking would make them, and every member's content."""

from __future__ import annotations

from services.inventory.modelfiles.report import Broken, Scan, quoted
from services.inventory.modelfiles.source import Part, Source

BLOCK = 512
_LONG_LIMIT = 1 << 20
_FILES = b"07\0 "
_LINKS = {ord("1"): "hard link", ord("2"): "symbolic link"}
_DEVICES = {ord("3"): "character device", ord("4"): "block device", ord("6"): "FIFO"}


def is_tar(source: Source) -> bool:
    """Whether a header with a right checksum stands at the start; the old form has no other mark."""
    block = source.read(0, BLOCK)
    return len(block) == BLOCK and block.strip(b"\0") != b"" and _right(block)


def _right(block: bytes) -> bool:
    try:
        stated = _number(block[148:156])
    except Broken:
        return False
    return stated == sum(block[:148]) + sum(block[156:]) + 8 * 32


def _number(field: bytes) -> int:
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Broken("a number in a header is none") from None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":"


def scan_tar(scan: Scan, source: Source, where: str) -> list[str]:
    """Judge an archive and every member; returns the members' names. Raises Broken or Exhausted."""
    scan.format("tar")
    at = 0
    names: list[str] = []
    long_name = long_link = None
    size_override: int | None = None
    for _ in range(scan.limits.members):
        block = source.read(at, BLOCK)
        if len(block) < BLOCK or not block.strip(b"\0"):
            _after(scan, source, where, at)
            return names
        if not _right(block):
            scan.suspicious("broken_tar", f"{where}+{at:#x}", "a header's checksum is wrong")
            return names
        scan.spend(BLOCK)
        kind, size = block[156], _number(block[124:136])
        begins = at + BLOCK
        if kind in b"LKxg":
            if size > _LONG_LIMIT:
                scan.suspicious("broken_tar", f"{where}+{at:#x}", f"a name of {size} bytes")
                return names
            data = source.read(begins, size)
            if kind == ord("L"):
                long_name = _text(data)
            elif kind == ord("K"):
                long_link = _text(data)
            else:
                records = _pax(data)
                long_name = records.get("path", long_name)
                long_link = records.get("linkpath", long_link)
                if records.get("size", "").isdigit():
                    size_override = int(records["size"][:18])
        else:
            if size_override is not None:
                size = size_override
            prefix = _text(block[345:500]) if block[257:262] == b"ustar" else ""
            name = long_name or (f"{prefix}/" if prefix else "") + _text(block[:100])
            link = long_link or _text(block[157:257])
            names.append(name)
            _member(scan, source, f"{where}/{quoted(name, _LONG_LIMIT)[1:-1]}", name, link, kind, begins, size)
            long_name = long_link = size_override = None
        at = begins + (size + BLOCK - 1) // BLOCK * BLOCK
    scan.suspicious("too_many_members", where, f"more than {scan.limits.members} members: not all were read")
    return names


def _pax(data: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length[:9]) <= len(data):
            break
        key, _, value = data[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return records


def _member(scan: Scan, source: Source, place: str, name: str, link: str, kind: int, begins: int, size: int) -> None:
    if leads_out(name):
        scan.unsafe("path_traversal", place, "unpacking writes outside of the folder")
    if kind in _LINKS:
        folder = name.rpartition("/")[0]
        inside = f"{folder}/{link}" if kind == ord("2") and not link.startswith("/") else link
        if link.startswith("/") or _climbs(inside):
            scan.unsafe("link_out", place, f"is a {_LINKS[kind]} to {quoted(link)}, outside of the folder")
        else:
            scan.suspicious("link_member", place, f"is a {_LINKS[kind]} to {quoted(link)}")
    elif kind in _DEVICES:
        scan.unsafe("device_member", place, f"is a {_DEVICES[kind]}")
    elif kind in _FILES:
        if begins + size > source.size:
            scan.unreadable("broken_tar", place, "it ends too early")
        if size:
            scan.within(Part(source, begins, max(0, min(size, source.size - begins))), place)
    elif kind != ord("5"):
        scan.suspicious("unknown_member", place, f"is of type {kind:#x}, which is not read")


def _climbs(path: str) -> bool:
    depth = 0
    for part in path.replace("\\", "/").split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _after(scan: Scan, source: Source, where: str, at: int) -> None:
    """What follows the end mark must be zeros."""
    while piece := source.read(at, 1 << 20):
        scan.spend(len(piece))
        if piece.strip(b"\0"):
            scan.suspicious("trailing_data", f"{where}+{at:#x}", "there is more behind the archive's end")
            return
        at += len(piece)

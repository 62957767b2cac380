"""NumPy's .npy: a header, and raw numbers or a pickle of objects."""

from __future__ import annotations

import ast

from services.inventory.modelfiles.pickles import scan_pickles
from services.inventory.modelfiles.report import Broken, Scan, quoted
from services.inventory.modelfiles.source import Source

_HEADER_LIMIT = 64 << 10


def scan_npy(scan: Scan, source: Source, where: str) -> None:
    """Raises Broken."""
    scan.format("npy")
    head = source.read(0, 12)
    wide = head[6:7] in (b"\x02", b"\x03")
    length = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    begins = (12 if wide else 10) + length
    if head[6:7] not in (b"\x01", b"\x02", b"\x03") or length > _HEADER_LIMIT:
        raise Broken("a NumPy header that no reader takes")
    text = source.read(begins - length, length).decode("latin-1")
    try:
        header = ast.literal_eval(text.strip())
        kind, shape = header["descr"], tuple(int(size) for size in header["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        scan.suspicious("odd_header", where, f"the header is no plain description of an array: {quoted(text)}")
        return
    width = _width(kind)
    if width is None:
        scan.format("object array")
        scan_pickles(scan, source, where, at=begins)
        return
    if width == 0:
        scan.unreadable("unknown_dtype", where, f"items of type {quoted(str(kind))}")
        return
    for size in shape:
        width *= max(size, 0)
    if source.size < begins + width:
        raise Broken("it ends too early")
    if source.size > begins + width:
        scan.suspicious("trailing_data", f"{where}+{begins + width:#x}", "there is more behind the array")


def _width(kind: object, depth: int = 0) -> int | None:
    """Bytes of one item; None when any part is an object, 0 when it is not known."""
    if isinstance(kind, str):
        text = kind.lstrip("<>=|")
        if text[:1] in ("O", "o"):
            return None
        if not text[1:].partition("[")[0].isdigit():
            return 1 if text == "?" else 0
        digits = int(text[1:].partition("[")[0][:9])
        if text[0] in "Mm":
            return 8
        return digits * 4 if text[0] == "U" else digits if text[0] in "biufcSVa" else 0
    if isinstance(kind, list) and depth < 16:
        total = 0
        unknown = False
        for field in kind:
            if not isinstance(field, tuple) or len(field) not in (2, 3):
                return 0
            width = _width(field[1], depth + 1)
            if width is None:
                return None
            unknown = unknown or width == 0
            count = 1
            for size in field[2] if len(field) == 3 and isinstance(field[2], tuple) else field[2:]:
                count *= size if isinstance(size, int) else 0
            total += width * count
        return 0 if unknown else total
    if isinstance(kind, tuple) and kind and depth < 16:
        return None if "O" in repr(kind) else 0
    return 0

"""Pickles, read opcode by opcode as a loader would run them, without running any.

A stack machine of its own keeps what a loader would have on its stack as far as it is made of constants, so that names
that were put together through the memo, duplicated or read from another pickle's strings are seen. Lengths, stack, memo
and what is kept are bounded; what goes beyond becomes UNKNOWN, and a name made of UNKNOWN is suspicious. A stream that
breaks is judged by all that a loader would have run before the break. pickletools is not used: where it refuses what
loaders accept (numbers and strings in text form), it hides what follows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from services.inventory.modelfiles.names import MADE_EMPTY, judge
from services.inventory.modelfiles.opcodes import LONG_TEXT, OPERATIONS, TEXT_LIMIT, UNKNOWN, Global, Made
from services.inventory.modelfiles.report import Broken, Exhausted, Limits, Report, Scan, Verdict, quoted
from services.inventory.modelfiles.source import BytesSource, Part, Reader, Source

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
KEPT_LIMIT = 400_000
"""Items, strings and entries that are kept of one pickle."""
KEPT_BYTES = 16 << 20
STACK_LIMIT = 1_000_000
PICKLES_LIMIT = 10_000
NESTED_LIMIT = 2_000
_TELLING_KEYS = frozenset(
    {"__class__", "__globals__", "__builtins__", "__subclasses__", "__code__", "__import__", "__getattribute__",
     "__reduce__", "__reduce_ex__", "__setstate__", "__bases__", "__mro__", "__loader__"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a kind of file may have in its pickles beyond what any may.

    Attributes:
        persistent: references to storages outside the pickle are resolved by the loader.
        prefixes: modules that the loader makes of the file's own compiled types.
        joblib: arrays lie in the stream, behind their wrappers.
    """

    name: str = "pickle"
    persistent: bool = False
    prefixes: tuple[str, ...] = ()
    joblib: bool = True


PLAIN = Dialect()
TORCH = Dialect("torch", persistent=True)
TORCHSCRIPT = Dialect("torchscript", persistent=True, prefixes=("__torch__",))


class Pickle:
    """One pickle within a source; `run` reads it and returns what a loader would return, as far as known."""

    def __init__(self, scan: Scan, reader: Reader, where: str, dialect: Dialect) -> None:
        self.scan, self.where, self.dialect = scan, where, dialect
        self.reader: Reader = reader
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistent: list[Any] = []
        self.kept = 0
        self.kept_bytes = 0
        self.nested = 0
        self.asked = False
        self.began = reader.at
        self.at = reader.at

    # -- reporting

    def _place(self) -> str:
        return f"{self.where}+{self.at:#x}"

    def suspicious(self, what: str, why: str) -> None:
        self.scan.suspicious(what, self._place(), why)

    # -- the machine

    def run(self) -> Any:
        """Read to STOP. Raises Broken (what was seen so far is reported), Exhausted."""
        byte, operations, scan, reader = self.reader.byte, OPERATIONS, self.scan, self.reader
        limit = scan.limits.opcodes
        while True:
            self.at = reader.at
            code = byte()
            if code == 0x2E:  # STOP
                return self.pop()
            scan.opcodes += 1
            if scan.opcodes > limit:
                raise Exhausted(f"more than {limit} pickle opcodes")
            operation = operations.get(code)
            if operation is None:
                raise Broken("it ends before STOP" if code < 0 else f"{code:#04x} is no opcode")
            operation(self)

    def push(self, value: Any) -> None:
        if len(self.stack) >= STACK_LIMIT:
            raise Exhausted(f"more than {STACK_LIMIT} values on the stack")
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise Broken("takes from an empty stack")
        if self.marks and self.marks[-1] == len(self.stack):
            raise Broken("takes a mark for a value")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise Broken("takes from an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= STACK_LIMIT:
            raise Exhausted("too many marks")
        self.marks.append(len(self.stack))

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Broken("no mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def keep(self, count: int = 1, size: int = 0) -> bool:
        """Whether there is room to keep so much more."""
        self.kept += count
        self.kept_bytes += size
        return self.kept <= KEPT_LIMIT and self.kept_bytes <= KEPT_BYTES

    def length(self, count: int) -> bytes:
        return self.reader.take(count)

    # -- constants

    def text(self, raw: bytes, encoding: str = "utf-8") -> None:
        if len(raw) <= TEXT_LIMIT and self.keep(1, len(raw)):
            value = raw.decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
            if value in _TELLING_KEYS:
                self.suspicious("telling_text", f"holds the text {value}, a handle on Python's own machinery")
            self.push(value)
        else:
            self.push(LONG_TEXT)

    def payload(self, size: int, *, is_text: bool, old: bool = False) -> None:
        """A string or bytes of that length: kept when short, looked into when it may be a file itself. An `old` one is
        Python 2's: bytes, which loaders take for text."""
        reader = self.reader
        if size < 0:
            raise Broken("a length is negative")
        if size <= TEXT_LIMIT:
            raw = reader.take(size)
            if is_text or old:
                self.text(raw, "latin-1" if old else "utf-8")
            else:
                self.push(raw if self.keep(1, size) else LONG_TEXT)
            if size >= 4:
                self.look_within(raw, BytesSource(raw), is_text=is_text)
            return
        start = reader.at
        head = reader.peek(16)
        reader.skip(size)
        self.push(LONG_TEXT)
        self.look_within(head, Part(reader.source, start, size), is_text=is_text)

    def look_within(self, head: bytes, source: Source, *, is_text: bool) -> None:
        if is_text:
            if not head.startswith(b"\xc2\x80") or source.size > 1 << 20:
                return
            # Protocol 2 has no bytes: they are Latin-1 text that _codecs.encode turns back.
            text = source.read(0, source.size).decode("utf-8", "replace")
            source = BytesSource(text.encode("latin-1", "replace"))
            head = source.read(0, 16)
        if not looks_like_a_file(head):
            return
        self.nested += 1
        if self.nested > NESTED_LIMIT:
            self.suspicious("too_many_nested", f"more than {NESTED_LIMIT} files within: not all were read")
            return
        self.scan.within(source, f"{self._place()}/bytes")

    def number(self, raw: bytes) -> None:
        """A number in text form. What cannot be read as one is unknown; loaders differ in what they take."""
        try:
            self.push(int(raw.strip().rstrip(b"L"), 0) if len(raw) < 64 else UNKNOWN)
        except ValueError:
            self.push(UNKNOWN)

    # -- names

    def ask(self, module: Any, name: Any) -> None:
        """A global is asked for; it is judged whether or not it is called."""
        self.asked = True
        if not isinstance(module, str) or not isinstance(name, str):
            if isinstance(module, Made | Global) or isinstance(name, Made | Global):
                self.scan.unsafe("computed_global", self._place(), "the name of a global is computed while loading")
            else:
                self.suspicious("computed_global", "the name of a global is not a plain text")
            self.push(UNKNOWN)
            return
        known = self.globals.get((module, name))
        if known is None:
            known = Global(module, name)
            if len(self.globals) < 20_000:
                self.globals[module, name] = known
            self._judge(module, name)
        self.push(known)

    def _judge(self, module: str, name: str) -> None:
        if any(module == prefix or module.startswith(prefix + ".") for prefix in self.dialect.prefixes):
            return
        verdict, why = judge(module[:TEXT_LIMIT], name[:TEXT_LIMIT])
        if verdict is not Verdict.CLEAN:
            what = "dangerous_global" if verdict is Verdict.UNSAFE else "unknown_global"
            self.scan.add(verdict, what, self._place(), why.encode("ascii", "backslashreplace").decode()[:300])

    def call(self, callee: Any, arguments: Any, *, new: bool = False) -> None:
        """A call, or (`new`) a class that is made without its initialiser."""
        if not isinstance(callee, Global):
            if isinstance(callee, Made):
                self.scan.unsafe("computed_call", self._place(), "calls what another call returned")
            else:
                self.suspicious("computed_call", "calls what is no plain global")
        elif (callee.module, callee.name) == ("_codecs", "encode"):
            encoding = arguments[1] if isinstance(arguments, tuple) and len(arguments) > 1 else "utf-8"
            if not isinstance(encoding, str) or encoding.lower().replace("_", "-") not in (
                "latin1", "latin-1", "utf-8", "utf8", "ascii", "iso-8859-1",
            ):  # fmt: skip
                self.suspicious("unusual_encoding", f"turns a text into bytes by {quoted(str(encoding))}")
        elif not new and str(callee) in MADE_EMPTY:
            self.suspicious("initialised", f"{callee} is called rather than restored")
        elif callee.name in _ALLOCATORS and _largest(arguments) >= 1 << 31:
            self.suspicious("allocates", f"{callee} with a number that takes gigabytes")
        self.push(Made(callee, arguments) if self.keep() else UNKNOWN)

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Global):
            self.scan.unsafe("changes_global", self._place(), f"sets attributes of {target} itself")
        elif isinstance(target, Made):
            target.state = state
            callee = target.callee
            if self.dialect.joblib and isinstance(callee, Global) and callee.name == "NumpyArrayWrapper":
                self._array(target)

    def _array(self, wrapper: Made) -> None:
        """joblib: an array's bytes, or a pickle of its objects, follow the wrapper in the same stream."""
        state = wrapper.state if isinstance(wrapper.state, dict) else {}
        shape, kind = state.get("shape"), state.get("dtype")
        text = kind.arguments[0] if isinstance(kind, Made) and isinstance(kind.arguments, tuple) else None
        if not isinstance(shape, tuple) or not isinstance(text, str) or not all(isinstance(n, int) for n in shape):
            raise Broken("an array whose size is not known")
        size = item_size(text)
        if size is None:
            self.scan.format("joblib objects")
            Pickle(self.scan, self.reader, self.where, self.dialect).run()
            return
        for length in shape:
            if length < 0:
                raise Broken("an array's shape is negative")
            size *= length
        if isinstance(state.get("numpy_array_alignment_bytes"), int):
            padding = self.reader.byte()
            self.reader.skip(max(padding, 0))
        self.reader.skip(size)

    def refer(self, value: Any) -> None:
        """A persistent id: the loader says what it stands for."""
        if not self.dialect.persistent or not (
            (isinstance(value, tuple) and value and value[0] in ("storage", "module")) or isinstance(value, str)
        ):
            self.suspicious("persistent_id", "refers to an object outside the file, which the loader has to know")
        if self.keep():
            self.persistent.append(value)
        self.push(UNKNOWN)


_ALLOCATORS = frozenset({"bytearray", "bytes", "range", "ndarray", "array", "UntypedStorage", "deque", "void"})


def _largest(value: Any, depth: int = 0) -> int:
    if isinstance(value, int):
        return value
    return max((_largest(one, depth + 1) for one in value), default=0) if type(value) is tuple and depth < 4 else 0


def item_size(kind: str) -> int | None:
    """Bytes of one item of a NumPy dtype's short form (`<f8`, `i4`, `|b1`); None for objects and what is not known."""
    text = kind.lstrip("<>=|")
    if not text or text[0] in "Oo" or not text[1:].isdigit():
        return {"?": 1, "bool": 1, "int64": 8, "float64": 8, "float32": 4, "int32": 4}.get(text)
    width = int(text[1:5])
    return width * 4 if text[0] == "U" else width if text[0] in "biufcSVMm" else None


def looks_like_a_file(head: bytes) -> bool:
    """Whether bytes may be a pickle or an archive themselves."""
    return (
        (head[:1] == b"\x80" and len(head) > 2 and head[1] <= 5)
        or head.startswith(
            (b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x7fELF")
        )
        or (head[:1] in b"c(" and b"\n" in head[:16] and head[1:2].isalpha())
    )


# -- files of pickles


def scan_pickles(scan: Scan, source: Source, where: str, dialect: Dialect = PLAIN, at: int = 0) -> None:
    """Judge a file of one pickle or several, one behind the other; PyTorch's old form, and joblib's, among them."""
    reader = Reader(scan, source, at)
    scan.format("pickle" if dialect is PLAIN else dialect.name)
    for position in range(PICKLES_LIMIT):
        pickle = Pickle(scan, reader, where, dialect)
        try:
            value = pickle.run()
        except Broken as broken:
            ran = " (a loader has run what stands before)" if pickle.asked else ""
            add = scan.suspicious if pickle.asked or position else scan.unreadable
            what = "trailing_data" if position and not pickle.asked else "broken_pickle"
            add(what, f"{where}+{pickle.at:#x}", f"{broken}{ran}")
            return
        if position == 0 and value == TORCH_MAGIC and type(value) is int:
            _torch_legacy(scan, reader, where)
            return
        if reader.ended:
            return
    scan.suspicious("too_many_pickles", where, f"more than {PICKLES_LIMIT} pickles, one behind the other")


def _torch_legacy(scan: Scan, reader: Reader, where: str) -> None:
    """PyTorch before 1.6: protocol, system, objects, storage keys as pickles, then the storages' raw bytes."""
    scan.format("torch legacy")
    last: Any = None
    references: list[Any] = []
    for _ in range(4):
        pickle = Pickle(scan, reader, where, TORCH)
        try:
            last = pickle.run()
        except Broken as broken:
            scan.suspicious(
                "broken_pickle", f"{where}+{pickle.at:#x}", f"{broken} (a loader has run what stands before)"
            )
            return
        references += pickle.persistent
    widths = {
        str(one[2]): storage_width(one[1])
        for one in references
        if isinstance(one, tuple) and len(one) >= 5 and one[0] == "storage"
    }
    keys = last if isinstance(last, list) else []
    try:
        for key in keys:
            (count,) = struct.unpack("<q", reader.take(8))
            width = widths.get(str(key))
            if width is None:
                raise Broken("a storage of a type that is not known")
            reader.skip(count * width)
    except Broken as broken:
        scan.unreadable("broken_storages", f"{where}+{reader.at:#x}", str(broken))
        return
    if not reader.ended:
        scan.suspicious("trailing_data", f"{where}+{reader.at:#x}", "there is more behind the last storage")


_WIDTHS = {
    "Double": 8, "Float": 4, "Half": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "BFloat16": 2,
    "ComplexDouble": 16, "ComplexFloat": 8, "QUInt8": 1, "QInt8": 1, "QInt32": 4, "Untyped": 1,
}  # fmt: skip


def storage_width(kind: Any) -> int | None:
    """Bytes of one item of a PyTorch storage class."""
    return _WIDTHS.get(kind.name.removesuffix("Storage")) if isinstance(kind, Global) else None


def dry_run(scan: Scan, source: Source, where: str) -> bool:
    """Judge unknown bytes as if they were a pickle; only what is plainly one is told. True when it was told."""
    trial = Scan(Report(where), Limits(opcodes=100_000, depth=1), lambda *_: None, scan.stopped)
    pickle = Pickle(trial, Reader(trial, source), where, TORCH)
    try:
        pickle.run()
        whole = pickle.scan.opcodes > 2
    except (Broken, Exhausted, UnicodeError, RecursionError):
        whole = False
    if pickle.asked and (whole or trial.report.verdict is Verdict.UNSAFE):
        scan_pickles(scan, source, where, PLAIN)
        return True
    return False

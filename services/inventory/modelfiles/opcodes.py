"""The opcodes of pickles, protocols 0 to 5: what each takes, and what it does to the machine in pickles.py.

Text forms are read leniently: where disassemblers refuse what loaders accept, they hide what follows.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.inventory.modelfiles.report import Broken, Exhausted
from services.inventory.modelfiles.source import BytesSource

if TYPE_CHECKING:
    from services.inventory.modelfiles.pickles import Pickle

TEXT_LIMIT = 1_024
"""Longest string that is kept; module and attribute names are shorter."""
MEMO_LIMIT = 2_000_000


class _Special:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


UNKNOWN = _Special("UNKNOWN")
LONG_TEXT = _Special("LONG_TEXT")


@dataclass(frozen=True, slots=True)
class Global:
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Made:
    """What a call would return: the callee, its arguments, and the state set on it."""

    callee: Any
    arguments: Any
    state: Any = None


def _deep(value: Any) -> bool:
    """Whether tuples lie within tuples so deep that hashing them, which visits each as often as it is referred to, may
    never end."""
    for _ in range(20):
        if type(value) is not tuple:
            return False
        value = next((one for one in value if type(one) is tuple), None)
    return True


def _skip(count: int) -> Callable[[Pickle], None]:
    return lambda pickle: pickle.reader.skip(count)


def _constant(value: Any) -> Callable[[Pickle], None]:
    return lambda pickle: pickle.push(value)


def _packed(form: str) -> Callable[[Pickle], None]:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    return lambda pickle: pickle.push(unpack(pickle.reader.take(size))[0])


def _payload(form: str, *, is_text: bool, old: bool = False) -> Callable[[Pickle], None]:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    return lambda pickle: pickle.payload(unpack(pickle.reader.take(size))[0], is_text=is_text, old=old)


def _long(form: str) -> Callable[[Pickle], None]:
    unpack, width = struct.Struct(form).unpack, struct.calcsize(form)

    def read(pickle: Pickle) -> None:
        size = unpack(pickle.reader.take(width))[0]
        if 0 <= size <= 64:
            pickle.push(int.from_bytes(pickle.reader.take(size), "little", signed=True))
        else:
            pickle.reader.skip(size)
            pickle.push(UNKNOWN)

    return read


def _int(pickle: Pickle) -> None:
    raw = pickle.reader.line()
    if raw in (b"00", b"01"):
        pickle.push(raw == b"01")
    else:
        pickle.number(raw)


def _float(pickle: Pickle) -> None:
    pickle.reader.line()
    pickle.push(UNKNOWN)


def _float8(pickle: Pickle) -> None:
    pickle.reader.take(8)
    pickle.push(UNKNOWN)


def _drop_mark(pickle: Pickle) -> None:
    pickle.pop_mark()


def _frozenset(pickle: Pickle) -> None:
    pickle.pop_mark()
    pickle.push(UNKNOWN)


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\n": b""}


def _unescaped(match: re.Match[bytes]) -> bytes:
    """One escape of a string in protocol 0."""
    hexadecimal, octal, letter = match.groups()
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    return bytes([int(octal, 8) & 0xFF]) if octal else _LETTERS.get(letter, letter)


def _string(pickle: Pickle) -> None:
    raw = pickle.reader.line().strip()
    if len(raw) > TEXT_LIMIT * 4:
        pickle.push(LONG_TEXT)
        return
    if raw[:1] in (b"'", b'"'):
        raw = raw[1:-1]
    plain = _ESCAPE.sub(_unescaped, raw)
    pickle.text(plain, "latin-1")
    pickle.look_within(plain[:16], BytesSource(plain), is_text=False)


def _unicode(pickle: Pickle) -> None:
    raw = pickle.reader.line(64 << 20)
    if len(raw) > TEXT_LIMIT * 4:
        pickle.push(LONG_TEXT)
        return
    pickle.text(raw.decode("raw-unicode-escape", "replace").encode("utf-8", "surrogatepass"))


def _global(pickle: Pickle) -> None:
    module, name = pickle.reader.line(), pickle.reader.line()
    pickle.ask(module.decode("utf-8", "surrogateescape"), name.decode("utf-8", "surrogateescape"))


def _stack_global(pickle: Pickle) -> None:
    name, module = pickle.pop(), pickle.pop()
    pickle.ask(module, name)


def _inst(pickle: Pickle) -> None:
    arguments = tuple(pickle.pop_mark()[:64])
    _global(pickle)
    pickle.call(pickle.pop(), arguments)


def _obj(pickle: Pickle) -> None:
    items = pickle.pop_mark()
    if not items:
        raise Broken("OBJ without a class")
    pickle.call(items[0], tuple(items[1:64]))


def _reduce(pickle: Pickle) -> None:
    arguments, callee = pickle.pop(), pickle.pop()
    pickle.call(callee, arguments)


def _newobj(pickle: Pickle) -> None:
    arguments, callee = pickle.pop(), pickle.pop()
    pickle.call(callee, arguments, new=True)


def _newobj_ex(pickle: Pickle) -> None:
    _keywords, arguments, callee = pickle.pop(), pickle.pop(), pickle.pop()
    pickle.call(callee, arguments, new=True)


def _extension(count: int) -> Callable[[Pickle], None]:
    def read(pickle: Pickle) -> None:
        code = int.from_bytes(pickle.reader.take(count), "little")
        pickle.asked = True
        pickle.suspicious("extension_code", f"asks for what the loading program has registered under {code}")
        pickle.push(UNKNOWN)

    return read


def _buffer(pickle: Pickle) -> None:
    pickle.suspicious("out_of_band_buffer", "needs a buffer from outside the file")
    pickle.push(UNKNOWN)


def _persid(pickle: Pickle) -> None:
    pickle.refer(pickle.reader.line().decode("latin-1")[:TEXT_LIMIT])


def _put(pickle: Pickle, slot: int) -> None:
    if slot not in pickle.memo and len(pickle.memo) >= MEMO_LIMIT:
        raise Exhausted(f"more than {MEMO_LIMIT} memo entries")
    pickle.memo[slot] = pickle.top()


def _get(pickle: Pickle, slot: int) -> None:
    if slot not in pickle.memo:
        raise Broken("takes what was never memoised")
    pickle.push(pickle.memo[slot])


def _slot_of(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        raise Broken("a memo key is no number") from None


def _slot(form: str, use: Callable[[Pickle, int], None]) -> Callable[[Pickle], None]:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    return lambda pickle: use(pickle, unpack(pickle.reader.take(size))[0])


def _tuple(count: int) -> Callable[[Pickle], None]:
    def read(pickle: Pickle) -> None:
        items = [pickle.pop() for _ in range(count)]
        pickle.push(tuple(reversed(items)) if pickle.keep(count) else UNKNOWN)

    return read


def _tuple_of_mark(pickle: Pickle) -> None:
    items = pickle.pop_mark()
    pickle.push(tuple(items) if len(items) <= 256 and pickle.keep(len(items)) else UNKNOWN)


def _list_of_mark(pickle: Pickle) -> None:
    items = pickle.pop_mark()
    pickle.push(list(items) if pickle.keep(len(items)) else UNKNOWN)


def _dict_of_mark(pickle: Pickle) -> None:
    items = pickle.pop_mark()
    pickle.push({})
    _set(pickle, items)


def _set(pickle: Pickle, items: list[Any]) -> None:
    target = pickle.top()
    if any(type(key) is tuple and _deep(key) for key in items[::2]):
        pickle.suspicious("hash_bomb", "a key of tuples within tuples, which takes for ever to hash")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str) and pickle.keep():
                target[key] = value


def _setitem(pickle: Pickle) -> None:
    value, key = pickle.pop(), pickle.pop()
    _set(pickle, [key, value])


def _extend(pickle: Pickle, items: list[Any]) -> None:
    target = pickle.top()
    if isinstance(target, list) and pickle.keep(len(items)):
        target.extend(items)


def _pop(pickle: Pickle) -> None:
    if pickle.marks and pickle.marks[-1] == len(pickle.stack):
        pickle.marks.pop()
    else:
        pickle.pop()


def _binpersid(pickle: Pickle) -> None:
    pickle.refer(pickle.pop())


def _proto(pickle: Pickle) -> None:
    version = pickle.reader.take(1)[0]
    if version > 5:
        raise Broken(f"there is no protocol {version}")


OPERATIONS: dict[int, Callable[[Pickle], None]] = {
    ord("("): lambda pickle: pickle.mark(),
    ord("0"): _pop,
    ord("1"): _drop_mark,
    ord("2"): lambda pickle: pickle.push(pickle.top()),
    ord("F"): _float,
    ord("I"): _int,
    ord("J"): _packed("<i"),
    ord("K"): _packed("<B"),
    ord("L"): lambda pickle: pickle.number(pickle.reader.line()),
    ord("M"): _packed("<H"),
    ord("N"): _constant(None),
    ord("P"): _persid,
    ord("Q"): _binpersid,
    ord("R"): _reduce,
    ord("S"): _string,
    ord("T"): _payload("<i", is_text=False, old=True),
    ord("U"): _payload("<B", is_text=False, old=True),
    ord("V"): _unicode,
    ord("X"): _payload("<I", is_text=True),
    ord("a"): lambda pickle: _extend(pickle, [pickle.pop()]),
    ord("b"): lambda pickle: pickle.build(),
    ord("c"): _global,
    ord("d"): _dict_of_mark,
    ord("}"): lambda pickle: pickle.push({} if pickle.keep() else UNKNOWN),
    ord("e"): lambda pickle: _extend(pickle, pickle.pop_mark()),
    ord("g"): lambda pickle: _get(pickle, _slot_of(pickle.reader.line())),
    ord("h"): _slot("<B", _get),
    ord("i"): _inst,
    ord("j"): _slot("<I", _get),
    ord("l"): _list_of_mark,
    ord("]"): lambda pickle: pickle.push([] if pickle.keep() else UNKNOWN),
    ord("o"): _obj,
    ord("p"): lambda pickle: _put(pickle, _slot_of(pickle.reader.line())),
    ord("q"): _slot("<B", _put),
    ord("r"): _slot("<I", _put),
    ord("s"): _setitem,
    ord("t"): _tuple_of_mark,
    ord(")"): _constant(()),
    ord("u"): lambda pickle: _set(pickle, pickle.pop_mark()),
    ord("G"): _float8,
    0x80: _proto,
    0x81: _newobj,
    0x82: _extension(1),
    0x83: _extension(2),
    0x84: _extension(4),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    0x88: _constant(True),
    0x89: _constant(False),
    0x8A: _long("<B"),
    0x8B: _long("<i"),
    ord("B"): _payload("<I", is_text=False),
    ord("C"): _payload("<B", is_text=False),
    0x8C: _payload("<B", is_text=True),
    0x8D: _payload("<Q", is_text=True),
    0x8E: _payload("<Q", is_text=False),
    0x8F: lambda pickle: pickle.push(UNKNOWN),
    0x90: _drop_mark,
    0x91: _frozenset,
    0x92: _newobj_ex,
    0x93: _stack_global,
    0x94: lambda pickle: _put(pickle, len(pickle.memo)),
    0x95: _skip(8),
    0x96: _payload("<Q", is_text=False),
    0x97: _buffer,
    0x98: lambda pickle: None,
}

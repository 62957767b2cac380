"""JSON, YAML, TOML and front matter as values that know their lines, read with bounds that no document can exceed.

One shape for all of them: `Table` is a dict, `Row` a list, each with the line of every entry, so that a claim can
name `path:line` whatever its file is written in. Readers are tolerant where tools are (comments and trailing
commas in JSON), and refuse what only an attacker writes: deep nesting, aliases that multiply, cycles.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

DEPTH_LIMIT = 64
VALUES_LIMIT = 200_000
"""Values of one document, aliases counted as often as they stand for something."""

_SKIP = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ATOM = re.compile(r"-?[A-Za-z0-9_.+-]+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WORDS = {"true": True, "false": False, "null": None, "yes": True, "no": False, "~": None, "": None}
_NUMBER = re.compile(r"[-+]?\d{1,18}")


class Table(dict[str, Any]):
    """A mapping; `at` has the line of each key, `line` its own."""

    __slots__ = ("at", "line")

    def __init__(self, line: int = 1) -> None:
        super().__init__()
        self.line = line
        self.at: dict[str, int] = {}

    def put(self, key: str, value: Any, line: int) -> None:
        self[key] = value
        self.at[key] = line

    def where(self, *keys: str) -> int:
        """The line of the first of these keys that it has, else its own."""
        return next((self.at[key] for key in keys if key in self.at), self.line)

    def text(self, *keys: str) -> str:
        """The first of these keys that has text, stripped; "" where none has."""
        return next((value.strip() for key in keys if isinstance(value := self.get(key), str) and value.strip()), "")

    def table(self, *keys: str) -> Table:
        """The first of these keys that has a table; an empty one where none has."""
        return next((value for key in keys if isinstance(value := self.get(key), Table)), Table(self.line))

    def rows(self, key: str) -> Row:
        value = self.get(key)
        return value if isinstance(value, Row) else Row(self.line)


class Row(list[Any]):
    """A sequence; `at` has the line of each item."""

    __slots__ = ("at", "line")

    def __init__(self, line: int = 1) -> None:
        super().__init__()
        self.line = line
        self.at: list[int] = []

    def put(self, value: Any, line: int) -> None:
        self.append(value)
        self.at.append(line)

    def lines(self) -> Iterator[tuple[Any, int]]:
        return zip(self, self.at, strict=True)


class _Lines:
    """Lines by offset, counted forward only."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1

    def of(self, offset: int) -> int:
        if offset >= self._at:
            self._line += self._text.count("\n", self._at, offset)
            self._at = offset
            return self._line
        return self._text.count("\n", 0, offset) + 1


def json(text: str) -> Any:
    """JSON, with comments and trailing commas as editors' configurations have them.

    Raises:
        ValueError: it is not JSON, or nests deeper or holds more than the limits.
    """
    lines = _Lines(text)
    stack: list[tuple[Table | Row, str, int]] = []  # what is open, the key that waits for a value, its line
    result: Any = None
    at, count, done = 0, 0, False

    def skip(position: int) -> int:
        match = _SKIP.match(text, position)
        return match.end() if match else position

    at = skip(at)
    while True:
        container = stack[-1][0] if stack else None
        if container is not None:
            closing = "}" if isinstance(container, Table) else "]"
            if text[at : at + 1] == ",":
                at = skip(at + 1)
            if text[at : at + 1] == closing:
                stack.pop()
                at = skip(at + 1)
                if not stack:
                    break
                continue
        if at >= len(text):
            raise ValueError(f"line {lines.of(at)}: ends too early")
        line = lines.of(at)
        if isinstance(container, Table):
            match = _STRING.match(text, at)
            if not match:
                raise ValueError(f"line {line}: a key is expected")
            at = skip(match.end())
            if text[at : at + 1] != ":":
                raise ValueError(f"line {line}: a colon is expected")
            at = skip(at + 1)
            stack[-1] = (container, _unquoted(match[0]), line)
        count += 1
        if count > VALUES_LIMIT:
            raise ValueError(f"holds more than {VALUES_LIMIT} values")
        first = text[at : at + 1]
        value: Any
        if first in ("{", "["):
            value = Table(lines.of(at)) if first == "{" else Row(lines.of(at))
            at = skip(at + 1)
        elif match := _STRING.match(text, at):
            value = _unquoted(match[0])
            at = skip(match.end())
        elif match := _ATOM.match(text, at):
            value = _scalar(match[0])
            at = skip(match.end())
        else:
            raise ValueError(f"line {line}: a value is expected")
        if container is None:
            result = value
        elif isinstance(container, Table):
            container.put(stack[-1][1], value, stack[-1][2])
        else:
            container.put(value, line)
        if isinstance(value, Table | Row):
            if len(stack) >= DEPTH_LIMIT:
                raise ValueError(f"nests deeper than {DEPTH_LIMIT}")
            stack.append((value, "", line))
        elif container is None:
            done = True
        if done:
            break
    if at < len(text):
        raise ValueError(f"line {lines.of(at)}: more text follows")
    return result


def _unquoted(quoted: str) -> str:
    inner = quoted[1:-1]
    if "\\" not in inner:
        return inner
    return (
        _ESCAPE.sub(
            lambda match: chr(int(match[1][1:], 16)) if len(match[1]) == 5 else _ESCAPES.get(match[1], match[1]), inner
        )
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )


def _scalar(word: str) -> Any:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _NUMBER.fullmatch(word):
        return int(word)
    try:
        return float(word)
    except ValueError:
        return word


def yaml_documents(text: str) -> list[Any]:
    """The documents of a YAML stream. No tag makes an object, and an alias is the value itself, never a copy.

    Raises:
        ValueError: it is not YAML, nests too deeply, or its aliases would stand for more values than the limit.
    """
    documents: list[Any] = []
    try:
        # Events come from a state machine that does not recurse; composing nodes would, on the C stack.
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, DocumentStartEvent):
                builder = _Builder()
            elif isinstance(event, DocumentEndEvent):
                documents.append(builder.result)
            elif not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent):
                builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be read"
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {problem}") from None
    return documents


class _Builder:
    """One document from its events."""

    def __init__(self) -> None:
        self.result: Any = None
        self._open: list[tuple[Table | Row, str | None, int, int, str | None]] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._weight = 0  # values so far, aliases counted in full

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            if len(self._open) >= DEPTH_LIMIT:
                raise ValueError(f"line {line}: nests deeper than {DEPTH_LIMIT}")
            container: Table | Row = Table(line) if isinstance(event, MappingStartEvent) else Row(line)
            self._grow(1, line)
            self._open.append((container, None, line, self._weight, event.anchor))
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            container, _, begun, weight, anchor = self._open.pop()
            if anchor:
                self._anchors[anchor] = (container, self._weight - weight + 1)
            self._put(container, begun)
        elif isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise ValueError(f"line {line}: an alias stands for nothing that is complete")
            value, weight = self._anchors[event.anchor]
            self._grow(weight, line)
            self._put(value, line)
        elif isinstance(event, ScalarEvent):
            plain = event.style in (None, "") and event.tag is None
            value = _scalar(event.value) if plain else event.value
            self._grow(1, line)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            self._put(value, line)

    def _grow(self, by: int, line: int) -> None:
        self._weight += by
        if self._weight > VALUES_LIMIT:
            raise ValueError(f"line {line}: stands for more than {VALUES_LIMIT} values")

    def _put(self, value: Any, line: int) -> None:
        if not self._open:
            self.result = value
            return
        container, key, at, weight, anchor = self._open[-1]
        if isinstance(container, Row):
            container.put(value, line)
        elif key is None:
            told = "" if isinstance(value, Table | Row) else "null" if value is None else str(value)
            # `true` as a key (GitHub's `on:`) stays the word that it is.
            self._open[-1] = (container, told, line, weight, anchor)
        else:
            if key == "<<" and isinstance(value, Table):
                for name, inherited in value.items():
                    if name not in container:
                        container.put(name, inherited, value.at[name])
            else:
                container.put(key, value, at)
            self._open[-1] = (container, None, line, weight, anchor)


def toml(text: str) -> Table:
    """TOML; lines are those where a key is first written below its parent.

    Raises:
        ValueError: it is not TOML.
    """
    try:
        parsed = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nests too deeply") from None
    lines = text.splitlines()
    words: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        for word in set(re.findall(r"[\w@/.-]+", line.partition("=")[0])):
            for part in {word, *word.split(".")}:
                words.setdefault(part, []).append(number)

    def converted(value: Any, line: int, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise ValueError(f"nests deeper than {DEPTH_LIMIT}")
        if isinstance(value, dict):
            table = Table(line)
            for key, item in value.items():
                at = next((number for number in words.get(key, ()) if number >= line), line)
                table.put(key, converted(item, at, depth + 1), at)
            return table
        if isinstance(value, list):
            row = Row(line)
            at = line
            for item in value:
                if isinstance(item, str):
                    at = next((n for n in range(at, min(len(lines), at + 400) + 1) if item in lines[n - 1]), at)
                row.put(converted(item, at, depth + 1), at)
            return row
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    table = converted(parsed, 1, 0)
    assert isinstance(table, Table)
    return table


def front_matter(text: str) -> tuple[Table, str, int]:
    """The YAML between `---` lines at a Markdown file's head, the text after it and its first line.

    Raises:
        ValueError: the head is not YAML.
    """
    if not text.startswith("---"):
        return Table(), text, 1
    head, mark, body = text[3:].partition("\n---")
    if not mark:
        return Table(), text, 1
    documents = yaml_documents(head)
    value = documents[0] if documents and isinstance(documents[0], Table) else Table()
    # The head begins on the line of the first dashes, so that its lines are the file's.
    return value, body.partition("\n")[2], head.count("\n") + 3


def strings(value: Any, path: tuple[str, ...] = (), line: int = 1) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Every text in a document with its keys and line, each shared value once."""
    seen: set[int] = set()
    pending: list[tuple[tuple[str, ...], Any, int]] = [(path, value, line)]
    while pending:
        keys, item, at = pending.pop()
        if isinstance(item, str):
            yield keys, item, at
        elif isinstance(item, Table | Row):
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, Table):
                pending += [((*keys, key), inner, item.at[key]) for key, inner in reversed(item.items())]
            else:
                pending += [(keys, inner, where) for inner, where in reversed(list(item.lines()))]

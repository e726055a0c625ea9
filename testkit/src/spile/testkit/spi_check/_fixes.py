"""Repairs of SPI003, SPI004 and SPI013, made in the text so that the rest of it stays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from spile.testkit.spi_check._annotations import annotated_types, parse_type, quoted
from spile.testkit.spi_check._classes import code_in, is_placeholder, unchecked_protocols
from spile.testkit.spi_check._source import (
    Function,
    Source,
    comments,
    is_ellipsis,
    is_text,
    methods,
    parse,
)
from spile.testkit.spi_check._types import can_unquote, early_names, has_future_import

_FUTURE = "from __future__ import annotations"
_PASSES = 10  # a type can be quoted inside a quoted type; each pass takes one layer off


_LINE_AFTER_COMMA = re.compile(rb"[ \t]*,[ \t]*(#[^\r\n]*)?(\r\n|\r|\n)")


@dataclass(frozen=True, slots=True, order=True)
class _Edit:
    """Replace the bytes from start to end."""

    start: int
    end: int
    text: str


def repair(source: Source) -> Source:
    """
    Return a source with the fixable findings repaired; the same object when there are none.

    Comments and docstrings are kept; a repair that would lose one, or break the syntax, is not
    made. Nothing is written to disk.
    """
    for _ in range(_PASSES):
        edits = sorted(set(_Editor(source).edits()))
        if not edits:
            break
        repaired = _applied(source, edits)
        if repaired is None:
            break
        source = repaired
    return source


def _applied(source: Source, edits: list[_Edit]) -> Source | None:
    data = source.text.encode()
    for edit in reversed(edits):
        data = data[: edit.start] + edit.text.encode() + data[edit.end :]
    try:
        repaired = parse(source.path, data.decode(), source.encoding)
    except (SyntaxError, ValueError):
        return None
    kept = _texts(source.tree) == _texts(repaired.tree) and (
        [text for _, text in comments(source.text)] == [text for _, text in comments(repaired.text)]
    )
    return repaired if kept else None


def _texts(tree: ast.Module) -> list[str]:
    return [
        ast.dump(node) for node in ast.walk(tree) if isinstance(node, ast.stmt) and is_text(node)
    ]


class _Editor:
    """Works out the edits of one pass over one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data = source.text.encode()
        self._starts = source.line_starts()
        ends = {b"\r\n": "\r\n", b"\r": "\r"}
        first_end = self._data[: self._starts[1]] if len(self._starts) > 1 else b""
        self._newline = next((text for end, text in ends.items() if first_end.endswith(end)), "\n")

    def edits(self) -> Iterator[_Edit]:
        yield from self._decorators()
        for node in self._source.protocols():
            for method in methods(node):
                if is_placeholder(self._source, method):
                    yield from self._body(method)
        yield from self._references()

    def _at(self, line: int, column: int = 0) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        start = self._at(node.lineno, node.col_offset)
        return start, self._at(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def _insert(self, position: int, text: str) -> _Edit:
        return _Edit(position, position, text.replace("\n", self._newline))

    # SPI003

    def _decorators(self) -> Iterator[_Edit]:
        for node in unchecked_protocols(self._source):
            name, edit = self._decorator_name(node)
            if edit:
                yield edit
            line = self._at(node.lineno)
            indent = self._data[line : self._at(node.lineno, node.col_offset)].decode()
            yield self._insert(line, f"{indent}@{name}\n")

    def _decorator_name(self, node: ast.ClassDef) -> tuple[str, _Edit | None]:
        """Return how to write the decorator at a class, and the edit that makes it so."""
        base = next(item for item in node.bases if self._source.is_protocol_base(item))
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Attribute):
            return f"{ast.unparse(base.value)}.runtime_checkable", None
        provider: ast.ImportFrom | None = None
        for item in self._source.tree.body:
            if isinstance(item, ast.ImportFrom) and item.lineno < node.lineno:
                for alias in item.names:
                    if alias.name == "runtime_checkable":
                        return alias.asname or alias.name, None
                if item.module in {"typing", "typing_extensions"}:
                    provider = item
        if provider is None:
            return "runtime_checkable", self._new_import("from typing import runtime_checkable")
        if provider.names[0].name == "*":
            return "runtime_checkable", None
        return "runtime_checkable", self._longer_import(provider)

    def _longer_import(self, node: ast.ImportFrom) -> _Edit:
        last = node.names[-1]
        end = self._at(last.end_lineno or last.lineno, last.end_col_offset or 0)
        indent = self._data[self._at(last.lineno) : self._at(last.lineno, last.col_offset)]
        if last.lineno > node.lineno and not indent.strip():
            comma = _LINE_AFTER_COMMA.match(self._data, end)
            if comma:
                return self._insert(comma.end(), f"{indent.decode()}runtime_checkable,\n")
            return self._insert(end, f",\n{indent.decode()}runtime_checkable")
        return self._insert(end, ", runtime_checkable")

    # SPI004

    def _body(self, method: Function) -> Iterator[_Edit]:
        has_ellipsis = any(is_ellipsis(item) for item in method.body)
        for item in code_in(method):
            start, end = self._span(item)
            line, following = self._lines(item)
            alone = not self._data[line:start].strip() and not self._data[end:following].strip()
            if has_ellipsis and alone:
                yield _Edit(line, following, "")
            else:
                yield _Edit(start, end, "...")
            has_ellipsis = True

    def _lines(self, node: ast.stmt) -> tuple[int, int]:
        last = node.end_lineno or node.lineno
        following = self._starts[last] if last < len(self._starts) else len(self._data)
        return self._at(node.lineno), following

    # SPI013

    def _references(self) -> Iterator[_Edit]:
        needed = any(True for _ in early_names(self._source))
        for annotation in annotated_types(self._source.tree):
            for text in quoted(self._source, annotation):
                if can_unquote(self._source, text):
                    needed = True
                    yield _Edit(*self._span(text), self._plain(str(text.value)))
        if needed and not has_future_import(self._source):
            yield self._new_import(_FUTURE)

    @staticmethod
    def _plain(text: str) -> str:
        """Return the type on one line, since outside its string a line break may end it."""
        node = parse_type(text)
        return text.strip() if node is None or text.strip().isprintable() else ast.unparse(node)

    # Imports

    def _new_import(self, line: str) -> _Edit:
        body = self._source.tree.body
        place = 1 if is_text(body[0]) else 0
        if line != _FUTURE:
            while place < len(body) and _is_future(body[place]):
                place += 1
        if place < len(body):
            node = body[place]
            top = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
            before = self._data[self._at(top) : self._at(node.lineno, node.col_offset)]
            if top == node.lineno and before.strip():  # after a semicolon
                return self._insert(self._at(node.lineno, node.col_offset), f"{line}; ")
            joined = isinstance(node, ast.Import | ast.ImportFrom) and (
                _is_future(node) or line != _FUTURE
            )
            return self._insert(self._at(top), f"{line}\n" if joined else f"{line}\n\n")
        return self._insert(len(self._data), f"\n{line}\n")


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"

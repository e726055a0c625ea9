"""Finding type expressions in a syntax tree, and reading them."""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Iterator
from typing import cast

from spile.testkit.spi_check._source import Source, parameters


def annotated_types(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the annotation of every parameter, result and variable."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (item.annotation for item in parameters(node) if item.annotation)
            if node.returns:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def aliases(source: Source) -> Iterator[ast.expr]:
    """Yield what stands to the right of every type alias of a module."""
    for node in ast.walk(source.tree):
        if type(node).__name__ == "TypeAlias":
            yield getattr(node, "value")  # noqa: B009 - exists from Python 3.12 on
        elif isinstance(node, ast.AnnAssign) and node.value:
            if source.is_typing(node.annotation, "TypeAlias"):
                yield node.value
        elif isinstance(node, ast.Assign) and is_type_expression(node.value):
            yield node.value


def is_type_expression(node: ast.expr) -> bool:
    """Return whether a value looks like a type: a name, a subscript, or a union of such."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return all(
            is_type_expression(side) or (isinstance(side, ast.Constant) and side.value is None)
            for side in (node.left, node.right)
        )
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript)


def type_nodes(source: Source, node: ast.expr) -> Iterator[ast.expr]:
    """
    Yield the parts of a type expression, outermost first.

    The values of a Literal and the notes of an Annotated are no types and are left out.
    """
    yield node
    for child in _type_children(source, node):
        yield from type_nodes(source, child)


def _type_children(source: Source, node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Subscript):
        yield node.value
        if source.is_typing(node.value, "Literal"):
            return
        if source.is_typing(node.value, "Annotated") and isinstance(node.slice, ast.Tuple):
            yield from node.slice.elts[:1]
            return
        yield node.slice
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child


def quoted(source: Source, node: ast.expr) -> Iterator[ast.Constant]:
    """Yield the strings of a type expression that stand for types."""
    for part in type_nodes(source, node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part


def parse_type(text: str) -> ast.expr | None:
    """Return the type expression that a string holds, None if it holds none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if is_type_expression(node) or (isinstance(node, ast.Constant) and node.value is None):
        return node
    return None


def unquoted(source: Source, node: ast.expr) -> ast.expr:
    """Return a type expression in which the quoted types are spelt out; the original is kept."""
    known = {id(part) for part in quoted(source, node)}
    return _spelt_out(source, node, known) if known else node


def _spelt_out(source: Source, node: ast.expr, known: set[int]) -> ast.expr:
    if id(node) in known and isinstance(node, ast.Constant):
        inner = parse_type(str(node.value))
        if inner is None:
            return node
        for part in ast.walk(inner):
            if isinstance(part, ast.expr):
                ast.copy_location(part, node)
        return unquoted(source, inner)
    clone = copy.copy(node)
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.expr):
            setattr(clone, field, _spelt_out(source, value, known))
        elif isinstance(value, list):
            items = cast("list[object]", value)
            spelt = [
                _spelt_out(source, item, known) if isinstance(item, ast.expr) else item
                for item in items
            ]
            setattr(clone, field, spelt)
    return clone

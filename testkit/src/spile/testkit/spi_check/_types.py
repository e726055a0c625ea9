"""Rules about types: SPI005, SPI006, SPI009, SPI013."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

from spile.testkit.spi_check._annotations import (
    aliases,
    annotated_types,
    parse_type,
    quoted,
    type_nodes,
    unquoted,
)
from spile.testkit.spi_check._findings import Finding
from spile.testkit.spi_check._source import Function, Source, has_comment, methods, parameters

# A name says I/O when it is one of the verbs alone, or begins with a verb of the second group.
_IO_NAME = re.compile(
    r"(ack|nack|close|commit|connect|disconnect|flush|get_schema|open|ping|poll|rollback|seek"
    r"|shutdown|start|stop|unsubscribe"
    r"|(download|fetch|publish|read|register|send|subscribe|upload|write)(_\w+)?)"
)
_ACCESSOR = re.compile(r"\w+_(count|limit|ms|only|s|size|timeout)")
_AWAITABLE = (
    "AbstractAsyncContextManager",
    "AsyncContextManager",
    "AsyncGenerator",
    "AsyncIterable",
    "AsyncIterator",
    "Awaitable",
    "Coroutine",
    "Future",
    "Task",
)
_MAPPINGS = ("Dict", "Mapping", "MutableMapping", "dict")
_CONTEXT_NAME = re.compile(r"(\w+_)?(metadata|context)")


def async_io(source: Source) -> Iterator[Finding]:
    """SPI005."""
    for node in source.protocols():
        for method in methods(node):
            if isinstance(method, ast.FunctionDef) and _blocks(source, method):
                yield source.finding(
                    method, "SPI005", f"{node.name}.{method.name} does I/O and is not async"
                )


def _blocks(source: Source, method: ast.FunctionDef) -> bool:
    if not _IO_NAME.fullmatch(method.name) or method.name.endswith("_sync"):
        return False
    if is_property(source, method):
        return False
    if _ACCESSOR.fullmatch(method.name) and len(parameters(method)) == 1:
        return False
    if method.returns is None:
        return True
    result = unquoted(source, method.returns)
    result = result.value if isinstance(result, ast.Subscript) else result
    return source.dotted(result).rpartition(".")[2] not in _AWAITABLE


def is_property(source: Source, method: Function) -> bool:
    """Return whether a method is read or written like an attribute."""
    return any(
        source.dotted(item).rpartition(".")[2]
        in {"cached_property", "deleter", "getter", "property", "setter"}
        for item in method.decorator_list
    )


def callables(source: Source) -> Iterator[Finding]:
    """SPI006."""
    roots = [*annotated_types(source.tree), *aliases(source)]
    roots += [base for node in source.classes() for base in node.bases]
    for root in roots:
        parts = list(type_nodes(source, unquoted(source, root)))
        subscripted = {id(part.value) for part in parts if isinstance(part, ast.Subscript)}
        for part in parts:
            if isinstance(part, ast.Subscript):
                if source.is_typing(part.value, "Callable") and not _is_complete(part.slice):
                    yield source.finding(
                        part, "SPI006", f"the type {ast.unparse(part)} does not name its parameters"
                    )
            elif source.is_typing(part, "Callable") and id(part) not in subscripted:
                yield source.finding(
                    part, "SPI006", "Callable names neither its parameters nor its result"
                )


def _is_complete(arguments: ast.expr) -> bool:
    if not isinstance(arguments, ast.Tuple) or len(arguments.elts) != len(("in", "out")):
        return False
    first = arguments.elts[0]
    if isinstance(first, ast.Name):  # a ParamSpec
        return not hasattr(builtins, first.id)
    return isinstance(first, ast.List | ast.Subscript | ast.Attribute)


def context_values(source: Source) -> Iterator[Finding]:
    """SPI009."""
    for node in source.classes():
        for name, annotation in _named_annotations(source, node):
            if not _CONTEXT_NAME.fullmatch(name):
                continue
            parts = list(type_nodes(source, unquoted(source, annotation)))
            subscripted = {id(part.value) for part in parts if isinstance(part, ast.Subscript)}
            if any(_is_loose(source, part, subscripted) for part in parts):
                yield source.finding(
                    annotation,
                    "SPI009",
                    f"{node.name}: {name} is {ast.unparse(annotation)}, which admits any value",
                )


def _named_annotations(source: Source, node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, item.annotation
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            for parameter in parameters(item):
                if parameter.annotation:
                    yield parameter.arg, parameter.annotation
            if item.returns and is_property(source, item):
                yield item.name, item.returns


def _is_loose(source: Source, part: ast.expr, subscripted: set[int]) -> bool:
    if not isinstance(part, ast.Subscript):
        return source.is_typing(part, *_MAPPINGS) and id(part) not in subscripted
    if not source.is_typing(part.value, *_MAPPINGS):
        return False
    values = part.slice.elts[-1] if isinstance(part.slice, ast.Tuple) else part.slice
    return source.is_typing(values, "Any", "object")


def forward_references(source: Source) -> Iterator[Finding]:
    """SPI013."""
    for annotation in annotated_types(source.tree):
        for text in quoted(source, annotation):
            readable = parse_type(str(text.value)) is not None
            yield source.finding(
                text,
                "SPI013",
                f"the type {text.value!r} is quoted"
                if readable
                else f"the text {text.value!r} is not a type",
                fixable=can_unquote(source, text),
            )
    for name in early_names(source):
        yield source.finding(name, "SPI013", f"{name.id} is used before it is defined")


def can_unquote(source: Source, text: ast.Constant) -> bool:
    """Return whether a quoted type can be written without quotes and without losing a comment."""
    return (
        "#" not in str(text.value)
        and parse_type(str(text.value)) is not None
        and not has_comment(source, text)
    )


def has_future_import(source: Source) -> bool:
    """Return whether annotations are left unevaluated in a file."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in source.tree.body
    )


def early_names(source: Source) -> Iterator[ast.Name]:
    """Yield names in annotations that are not yet defined where they are evaluated."""
    if has_future_import(source):
        return
    defined = _definitions(source)
    for annotation, local in _evaluated(source.tree.body, frozenset()):
        for part in type_nodes(source, annotation):
            if (
                isinstance(part, ast.Name)
                and part.id not in local
                and annotation.lineno <= defined.get(part.id, 0)
            ):
                yield part


def _evaluated(
    body: list[ast.stmt], local: frozenset[str]
) -> Iterator[tuple[ast.expr, frozenset[str]]]:
    """Yield the annotations evaluated at import, each with the names of its class."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            own = {item.name for item in node.body if isinstance(item, ast.ClassDef)}
            own |= {name for item in node.body for name in _targets(item)}
            yield from _evaluated(node.body, local | own)
        elif isinstance(node, ast.If):
            yield from _evaluated([*node.body, *node.orelse], local)
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation, local
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((item.annotation, local) for item in parameters(node) if item.annotation)
            if node.returns:
                yield node.returns, local


def _definitions(source: Source) -> dict[str, int]:
    """Return, for each name of a module, the line from which on it can be used."""
    never = len(source.text) + 1
    found: dict[str, int] = {}
    for node in source.tree.body:
        last = node.end_lineno or node.lineno
        bound = [(item, last) for item in ([node] if not isinstance(node, ast.If) else node.orelse)]
        if isinstance(node, ast.If):
            hidden = source.is_typing(node.test, "TYPE_CHECKING")
            bound += [(item, never if hidden else last) for item in node.body]
        for item, line in bound:
            for name in _targets(item):
                found[name] = min(line, found.get(name, never))
    return found


def _targets(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.Assign):
        yield from (item.id for item in node.targets if isinstance(item, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id

"""Rules about classes and functions: SPI001 to SPI004, SPI007, SPI008, SPI014, SPI015."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from spile.testkit.spi_check._findings import Finding
from spile.testkit.spi_check._source import (
    Function,
    Source,
    has_comment,
    is_ellipsis,
    is_text,
    methods,
    parameters,
)

ERROR_FILE = "_errors.py"
"""The one file that may hold concrete classes."""


def no_init(source: Source) -> Iterator[Finding]:
    """SPI001."""
    for node in source.protocols():
        for method in methods(node):
            if method.name == "__init__":
                yield source.finding(method, "SPI001", f"{node.name} has an __init__")


def protocol_name(source: Source) -> Iterator[Finding]:
    """SPI002."""
    for node in source.protocols():
        if not node.name.startswith("Protocol") or node.name == "Protocol":
            yield source.finding(
                node, "SPI002", f"the protocol {node.name} is not named Protocol<Name>"
            )


def runtime_checkable(source: Source) -> Iterator[Finding]:
    """SPI003."""
    for node in unchecked_protocols(source):
        yield source.finding(node, "SPI003", f"{node.name} is not @runtime_checkable")


def unchecked_protocols(source: Source) -> Iterator[ast.ClassDef]:
    """Yield the protocols without the decorator."""
    for node in source.protocols():
        if not any(_is_runtime_checkable(source, item) for item in node.decorator_list):
            yield node


def _is_runtime_checkable(source: Source, node: ast.expr) -> bool:
    return source.dotted(node).rpartition(".")[2] in {"runtime_checkable", "runtime"}


def method_bodies(source: Source) -> Iterator[Finding]:
    """SPI004."""
    for node in source.protocols():
        for method in methods(node):
            wrong = code_in(method)
            if wrong:
                yield source.finding(
                    wrong[0],
                    "SPI004",
                    f"{node.name}.{method.name} has code in its body",
                    fixable=is_placeholder(source, method),
                )


def code_in(method: Function) -> list[ast.stmt]:
    """Return the statements of a body that are neither text nor an ellipsis."""
    return [item for item in method.body if not is_ellipsis(item) and not is_text(item)]


def is_placeholder(source: Source, method: Function) -> bool:
    """Return whether all code of a body only says that there is none, and can be replaced."""
    return all(
        isinstance(item, ast.Pass) or (_is_refusal(source, item) and not has_comment(source, item))
        for item in code_in(method)
    )


def _is_refusal(source: Source, statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Raise) or statement.exc is None:
        return False
    error = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    return source.dotted(error) == "NotImplementedError"


def concrete_classes(source: Source) -> Iterator[Finding]:
    """SPI007."""
    if source.path.name == ERROR_FILE:
        return
    for node in source.classes():
        if not source.is_protocol(node):
            yield source.finding(node, "SPI007", f"{node.name} is a concrete class")


def standalone_functions(source: Source) -> Iterator[Finding]:
    """SPI008."""
    for node in _outside_classes(source.tree.body):
        yield source.finding(node, "SPI008", f"{node.name} is a function outside a class")


def _outside_classes(body: list[ast.stmt]) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _outside_classes(node.body)
            if not isinstance(node, ast.With):
                yield from _outside_classes(node.orelse)


def protocol_docstring(source: Source) -> Iterator[Finding]:
    """SPI014."""
    for node in source.protocols():
        if not (ast.get_docstring(node) or "").strip():
            yield source.finding(node, "SPI014", f"{node.name} has no docstring")


def method_annotations(source: Source) -> Iterator[Finding]:
    """SPI015."""
    for node in source.classes():
        for method in methods(node):
            missing = [f"parameter {name}" for name in _bare_parameters(source, method)]
            if method.returns is None:
                missing.append("the result")
            if missing:
                yield source.finding(
                    method,
                    "SPI015",
                    f"{node.name}.{method.name} does not annotate {', '.join(missing)}",
                )


def _bare_parameters(source: Source, method: Function) -> list[str]:
    static = any(source.dotted(item) == "staticmethod" for item in method.decorator_list)
    positional = [*method.args.posonlyargs, *method.args.args]
    owner = None if static or not positional else positional[0]
    return [
        item.arg for item in parameters(method) if item is not owner and item.annotation is None
    ]

"""Rules about all files together: SPI010 and SPI011."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from spile.testkit.spi_check._annotations import unquoted
from spile.testkit.spi_check._findings import Finding
from spile.testkit.spi_check._source import Source, methods


def duplicate_protocols(sources: Sequence[Source]) -> Iterator[Finding]:
    """
    SPI010.

    One shared member is a coincidence, as `value: str` and the like are; two or more are not.
    """
    first: dict[tuple[str, ...], tuple[Source, ast.ClassDef]] = {}
    for source in sources:
        for node in source.protocols():
            members = _members(source, node)
            if len(members) < len(("this", "that")):
                continue
            earlier, other = first.setdefault((*_bases(source, node), *members), (source, node))
            if other.name != node.name:
                yield source.finding(
                    node,
                    "SPI010",
                    f"{node.name} has the same members as {other.name} in {_place(earlier, other)}",
                )


def name_conflicts(sources: Sequence[Source]) -> Iterator[Finding]:
    """SPI011."""
    first: dict[str, tuple[Source, ast.ClassDef]] = {}
    for source in sources:
        for node in source.protocols():
            earlier, other = first.setdefault(node.name, (source, node))
            if other is not node:
                yield source.finding(
                    node, "SPI011", f"{node.name} is also defined in {_place(earlier, other)}"
                )


def _place(source: Source, node: ast.ClassDef) -> str:
    return f"{source.path.name}:{node.lineno}"


def _bases(source: Source, node: ast.ClassDef) -> list[str]:
    return sorted(ast.unparse(base) for base in node.bases if not source.is_protocol_base(base))


def _members(source: Source, node: ast.ClassDef) -> list[str]:
    """Return the signatures of a protocol's own members, in an order that does not depend on it."""
    members = {_signature(source, method) for method in methods(node)}
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            annotation = ast.unparse(unquoted(source, item.annotation))
            members.add(f"{ast.unparse(item.target)}: {annotation}")
    return sorted(members)


def _signature(source: Source, method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    kind = "async " if isinstance(method, ast.AsyncFunctionDef) else ""
    decorators = sorted(source.dotted(item) for item in method.decorator_list)
    result = ast.unparse(unquoted(source, method.returns)) if method.returns else ""
    arguments = ast.unparse(method.args).replace('"', "'")
    return f"{decorators} {kind}{method.name}({arguments}) -> {result}"

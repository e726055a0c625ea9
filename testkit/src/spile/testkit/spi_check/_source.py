"""One source file, parsed, with what several rules want to know about it."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from spile.testkit.spi_check._findings import RULES, Finding

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    A parsed file.

    Attributes:
        path: Where it is.
        text: Decoded, without byte order mark, line ends as they are.
        encoding: What to write it back with.
        tree: The syntax tree; its columns count UTF-8 bytes.
        names: Dotted origin of each imported name, such as `Protocol` -> `typing.Protocol`.
    """

    path: Path
    text: str
    encoding: str
    tree: ast.Module
    names: dict[str, str]

    def finding(
        self, node: ast.AST, rule: str, message: str, *, fixable: bool | None = None
    ) -> Finding:
        """Return a finding at a node; whether it can be fixed is the rule's if not said."""
        return Finding(
            path=self.path,
            line=getattr(node, "lineno", 1),
            column=getattr(node, "col_offset", 0) + 1,
            rule=rule,
            message=message,
            fixable=RULES[rule].fixable if fixable is None else fixable,
        )

    def dotted(self, node: ast.AST) -> str:
        """Return the dotted origin of a name or attribute; empty for anything else."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def is_typing(self, node: ast.AST, *names: str) -> bool:
        """Return whether a node is one of these names of the typing modules."""
        module, _, name = self.dotted(node).rpartition(".")
        return name in names and module in {"", "typing", "typing_extensions", "collections.abc"}

    def classes(self) -> Iterator[ast.ClassDef]:
        """Yield every class, nested ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def protocols(self) -> Iterator[ast.ClassDef]:
        """Yield every class that names Protocol among its bases."""
        return (node for node in self.classes() if self.is_protocol(node))

    def is_protocol(self, node: ast.ClassDef) -> bool:
        """Return whether a class names Protocol, bare or subscripted, among its bases."""
        return any(self.is_protocol_base(base) for base in node.bases)

    def is_protocol_base(self, base: ast.expr) -> bool:
        """Return whether a base is Protocol itself."""
        if isinstance(base, ast.Subscript):
            base = base.value
        return self.dotted(base).rpartition(".")[2] == "Protocol"

    def line_starts(self) -> list[int]:
        """Return the byte offset in UTF-8 at which each line starts."""
        data = self.text.encode()
        return [0, *(match.end() for match in _LINE_END.finditer(data))]


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """Yield the methods that stand directly in a class."""
    return (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters(function: Function) -> list[ast.arg]:
    """Return all parameters in the order of writing, `self` included."""
    arguments = function.args
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *([arguments.vararg] if arguments.vararg else []),
        *arguments.kwonlyargs,
        *([arguments.kwarg] if arguments.kwarg else []),
    ]


def is_ellipsis(statement: ast.stmt) -> bool:
    """Return whether a statement is `...`."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is ...
    )


def is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is a bare string: a docstring, or a note below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def comments(text: str) -> list[tuple[int, str]]:
    """Return line and text of every comment, in order."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    tokens = tokenize.generate_tokens(io.StringIO(plain).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def has_comment(source: Source, node: ast.stmt | ast.expr) -> bool:
    """Return whether a comment stands between the first and the last line of a node."""
    last = node.end_lineno or node.lineno
    return last > node.lineno and any(
        node.lineno <= line < last for line, _ in comments(source.text)
    )


def load(path: Path) -> Source | Finding:
    """Read and parse a file; a file that is not Python gives a finding."""
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return parse(path, data.decode(encoding), encoding)
    except SyntaxError as error:
        return _unreadable(
            path, error.lineno or 1, f"syntax error in Python {_VERSION}: {error.msg}"
        )
    except (OSError, ValueError) as error:
        return _unreadable(path, 1, f"the file cannot be read: {error}")
    except (MemoryError, RecursionError):
        return _unreadable(path, 1, "the code is nested too deeply to be parsed")


def parse(path: Path, text: str, encoding: str) -> Source:
    """
    Parse text.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It holds a null byte.
    """
    with warnings.catch_warnings(action="ignore"):  # such as an invalid escape: not our business
        tree = ast.parse(text)
    return Source(path=path, text=text, encoding=encoding, tree=tree, names=_origins(tree))


def _unreadable(path: Path, line: int, message: str) -> Finding:
    return Finding(path=path, line=max(line, 1), column=1, rule="SPI000", message=message)


def _origins(tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
    names.pop("*", None)
    return names

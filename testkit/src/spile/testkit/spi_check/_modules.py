"""Rules about what a module may import and do: SPI012 and SPI016."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from spile.testkit.spi_check._annotations import is_type_expression
from spile.testkit.spi_check._findings import Finding
from spile.testkit.spi_check._source import Source, is_ellipsis, is_text, parameters

# fmt: off
_IO_MODULES = frozenset({
    "asyncio", "asyncore", "bz2", "curses", "dbm", "fcntl", "fileinput", "ftplib", "getpass",
    "glob", "gzip", "http", "imaplib", "importlib", "logging", "lzma", "mmap", "multiprocessing",
    "nntplib", "os", "poplib", "pty", "readline", "resource", "runpy", "select", "selectors",
    "shelve", "shutil", "signal", "smtpd", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "syslog", "tarfile", "telnetlib", "tempfile", "termios", "tty", "urllib",
    "venv", "webbrowser", "wsgiref", "xmlrpc", "zipfile",
})
# fmt: on
_PURE_SUBMODULES = frozenset({"urllib.parse"})
_FORBIDDEN_CALLS = frozenset(
    {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"}
)
_TYPE_MAKERS = ("NewType", "ParamSpec", "TypeVar", "TypeVarTuple")


def namespace(source: Source) -> Iterator[Finding]:
    """SPI012."""
    for node, module in _imports(source):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "typing_extensions":
            continue
        if not _is_own(source.path, module):
            yield source.finding(node, "SPI012", f"the import of {module} leaves the SPI")


def _imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")


def _is_own(path: Path, module: str) -> bool:
    path = path.resolve()
    root = _package_root(path)
    if module.startswith("."):
        level = len(module) - len(module.lstrip("."))
        folder = path.parents[min(level, len(path.parents)) - 1]
        return folder == root or root in folder.parents
    name = _dotted_name(root)
    if name:
        return module == name or module.startswith(f"{name}.")
    parts = module.split(".")
    return any(tuple(parts[:count]) == root.parts[-count:] for count in range(1, len(parts) + 1))


def _package_root(path: Path) -> Path:
    """Return the folder of the outermost package, or of the nearest one that is named an SPI."""
    folder = path.parent
    while not folder.name.endswith("spi") and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


@lru_cache(maxsize=16)
def _dotted_name(root: Path) -> str:
    """Return the name that a package is imported by; empty when nothing tells where it starts."""
    search = {Path(entry).resolve() for entry in sys.path if entry}
    for folder in root.parents:
        marked = folder.name in {"src", "site-packages"} or (folder / "pyproject.toml").is_file()
        if marked or folder in search:
            parts = root.relative_to(folder).parts
            return ".".join(parts) if all(part.isidentifier() for part in parts) else ""
    return ""


def purity(source: Source) -> Iterator[Finding]:
    """SPI016."""
    found = [*_io_imports(source), *_forbidden_uses(source)]
    lines = {finding.line for finding in found}
    found += [item for item in _statements(source, source.tree.body) if item.line not in lines]
    for node in source.protocols():
        found += _class_statements(source, node)
    yield from found


def _io_imports(source: Source) -> Iterator[Finding]:
    for node, module in _imports(source):
        names = [module]
        if isinstance(node, ast.ImportFrom):
            names += [f"{module}.{alias.name}" for alias in node.names]
        if module.partition(".")[0] in _IO_MODULES and _PURE_SUBMODULES.isdisjoint(names):
            yield source.finding(node, "SPI016", f"the module {module} does I/O")


def _forbidden_uses(source: Source) -> Iterator[Finding]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.dotted(node.func) in _FORBIDDEN_CALLS:
            yield source.finding(node, "SPI016", f"{source.dotted(node.func)}() is called")
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            name = source.dotted(node)
            if name in {"os.environ", "os.getenv"}:
                yield source.finding(node, "SPI016", f"{name} reads the environment")


def _statements(source: Source, body: list[ast.stmt]) -> Iterator[Finding]:
    for node in body:
        if isinstance(node, ast.If) and _is_version_or_type_check(source, node.test):
            yield from _statements(source, [*node.body, *node.orelse])
        elif isinstance(node, ast.If) and "__name__" in _names(node.test):
            yield source.finding(node, "SPI016", "the module asks for __name__")
        elif not _declares(source, node):
            yield source.finding(node, "SPI016", f"the module {_what(node)}")


def _is_version_or_type_check(source: Source, test: ast.expr) -> bool:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    if isinstance(test, ast.Compare):
        return source.dotted(test.left) == "sys.version_info"
    return source.is_typing(test, "TYPE_CHECKING")


def _names(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


def _declares(source: Source, node: ast.stmt) -> bool:
    """Return whether a statement of a module declares something and does nothing."""
    if is_text(node) or is_ellipsis(node) or type(node).__name__ == "TypeAlias":
        return True
    if isinstance(node, ast.Assign):
        return all(isinstance(item, ast.Name) for item in node.targets) and _is_declaration(
            source, node.targets[0], node.value
        )
    if isinstance(node, ast.AugAssign):
        return _is_export_list(node.target, node.value)
    if isinstance(node, ast.AnnAssign):
        if node.value is None or _is_export_list(node.target, node.value):
            return True
        return source.is_typing(node.annotation, "TypeAlias") and (
            is_type_expression(node.value) or isinstance(node.value, ast.Constant)
        )
    # Functions and classes are the business of other rules.
    return isinstance(
        node,
        ast.Import
        | ast.ImportFrom
        | ast.ClassDef
        | ast.FunctionDef
        | ast.AsyncFunctionDef
        | ast.Pass,
    )


def _is_declaration(source: Source, target: ast.expr, value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return source.is_typing(value.func, *_TYPE_MAKERS)
    return _is_export_list(target, value) or is_type_expression(value)


def _is_export_list(target: ast.expr, value: ast.expr) -> bool:
    return (
        isinstance(target, ast.Name)
        and target.id == "__all__"
        and isinstance(value, ast.List | ast.Tuple)
        and all(isinstance(item, ast.Constant | ast.Starred) for item in value.elts)
    )


def _what(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return f"holds the value {', '.join(ast.unparse(item) for item in targets)}"
    return f"runs code: {ast.unparse(node).splitlines()[0]}"


def _class_statements(source: Source, owner: ast.ClassDef) -> Iterator[Finding]:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            defaults = [*arguments.defaults, *(item for item in arguments.kw_defaults if item)]
            if not all(_is_plain(item) for item in defaults):
                names = ", ".join(item.arg for item in parameters(node))
                yield source.finding(
                    node, "SPI016", f"{owner.name}.{node.name}({names}) computes a default"
                )
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if node.value is not None and not _is_plain(node.value):
                yield source.finding(node, "SPI016", f"{owner.name} computes an attribute")
        elif not (is_text(node) or is_ellipsis(node) or isinstance(node, ast.Pass | ast.ClassDef)):
            yield source.finding(node, "SPI016", f"{owner.name} runs code in its body")


def _is_plain(value: ast.expr) -> bool:
    """Return whether a value is there without a computation worth the name."""
    return not any(
        isinstance(item, ast.Call | ast.Lambda | ast.comprehension | ast.Await | ast.Yield)
        for item in ast.walk(value)
    )

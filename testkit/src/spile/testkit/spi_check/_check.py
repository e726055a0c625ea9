"""Choosing the files, running the rules, writing the repairs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from spile.testkit.spi_check import _classes, _modules, _sets, _types
from spile.testkit.spi_check._findings import CheckInputError, CheckReport, Finding
from spile.testkit.spi_check._fixes import repair
from spile.testkit.spi_check._source import Source, load

_FILE_RULES: tuple[Callable[[Source], Iterator[Finding]], ...] = (
    _classes.no_init,
    _classes.protocol_name,
    _classes.runtime_checkable,
    _classes.method_bodies,
    _types.async_io,
    _types.callables,
    _classes.concrete_classes,
    _classes.standalone_functions,
    _types.context_values,
    _modules.namespace,
    _types.forward_references,
    _classes.protocol_docstring,
    _classes.method_annotations,
    _modules.purity,
)
_SET_RULES: tuple[Callable[[Sequence[Source]], Iterator[Finding]], ...] = (
    _sets.duplicate_protocols,
    _sets.name_conflicts,
)
_PYTHON = {".py", ".pyi"}
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}


def check_paths(paths: Sequence[Path], *, fix: bool = False) -> CheckReport:
    """
    Check Python files, and all of them together where a rule compares files.

    Nothing of what is checked gets imported or run.

    Args:
        paths: Files, and folders that are searched without hidden ones and links.
        fix: Repair SPI003, SPI004 and SPI013 in the files where `Finding.fixable` says so. A second
            run changes nothing; comments, docstrings, encoding and line ends stay.

    Returns:
        The findings that are left, and those repaired. A file that is not Python is a finding.

    Raises:
        CheckInputError: A path does not exist, or there is no Python file below it.
        OSError: A repaired file cannot be written.
    """
    files = tuple(sorted({file for path in paths for file in _python_files(path)}))
    loaded = [load(file) for file in files]
    findings = _run(loaded)
    if not fix:
        return CheckReport(files=files, findings=findings)
    repaired = [_repaired(item) if isinstance(item, Source) else item for item in loaded]
    left = _run(repaired)
    remaining = [(item.path, item.rule, item.message) for item in left]
    fixed: list[Finding] = []
    for finding in findings:
        key = (finding.path, finding.rule, finding.message)
        if key in remaining:
            remaining.remove(key)
        elif finding.fixable:
            fixed.append(finding)
    return CheckReport(files=files, findings=left, fixed=tuple(fixed))


def default_path() -> Path:
    """
    Return the folder of the installed `spile.spi`, without importing it.

    Raises:
        CheckInputError: It is not installed.
    """
    spec = find_spec("spile.spi")
    if spec is None or spec.origin is None:
        raise CheckInputError("spile.spi is not installed; name the folder of the SPI to check")
    return Path(spec.origin).parent


def staged_paths() -> tuple[Path, ...]:
    """
    Return the Python files that are staged for the next commit, as they stand on disk.

    Where the repository holds the installed `spile.spi`, only files of that package count;
    elsewhere every staged Python file does.

    Raises:
        CheckInputError: Git is missing, or the working folder is in no repository.
    """
    top = Path(_git("rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    names = _git("diff", "--cached", "--name-only", "--diff-filter=ACMR", "-z", "--no-renames")
    files = [top / name for name in names.split("\0") if Path(name).suffix in _PYTHON]
    package = default_path().resolve()
    if top in package.parents:
        files = [file for file in files if package in file.parents]
    return tuple(sorted(file for file in files if file.is_file()))


def _git(*arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise CheckInputError("git is not on the PATH, so what is staged is unknown")
    done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
        [program, *arguments], capture_output=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise CheckInputError(f"git cannot say what is staged: {reason}")
    return done.stdout


def _python_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _PYTHON:
            raise CheckInputError(f"{path} is not a Python file (.py, .pyi)")
        return [path]
    if not path.is_dir():
        raise CheckInputError(f"{path} does not exist; name a Python file or a folder")
    found: list[Path] = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and name not in _SKIPPED
        ]
        found += [Path(folder, name) for name in names if Path(name).suffix in _PYTHON]
    if not found:
        raise CheckInputError(f"there is no Python file below {path}")
    return found


def _run(loaded: Sequence[Source | Finding]) -> tuple[Finding, ...]:
    findings = [item for item in loaded if isinstance(item, Finding)]
    sources = [item for item in loaded if isinstance(item, Source)]
    for source in sources:
        for rule in _FILE_RULES:
            findings += rule(source)
    for set_rule in _SET_RULES:
        findings += set_rule(sources)
    return tuple(sorted(findings, key=lambda item: (item.path, item.line, item.column, item.rule)))


def _repaired(source: Source) -> Source:
    repaired = repair(source)
    if repaired is not source:
        repaired.path.write_bytes(repaired.text.encode(repaired.encoding))
    return repaired

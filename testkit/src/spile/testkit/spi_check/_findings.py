"""The rules by name, and what a check reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any


class CheckInputError(ValueError):
    """
    Raised when there is nothing sensible to check: no such path, no Python file, no git.

    It stands outside the tree of `spile.spi`, which the checker must not import: the package may be
    the broken one.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule of the checker.

    Attributes:
        code: `SPI001` to `SPI016`; `SPI000` is a file that cannot be read as Python.
        summary: What the rule asks.
        way_out: What to do about a finding.
        fixable: Whether `fix` can repair the usual form.
    """

    code: str
    summary: str
    way_out: str
    fixable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One place that breaks a rule.

    Attributes:
        path: File as it was found from the path that was given.
        line: First line is 1.
        column: First column is 1, in UTF-8 bytes.
        rule: Code of the rule.
        message: What is wrong.
        fixable: Whether `fix` repairs this very place.
    """

    path: Path
    line: int
    column: int
    rule: str
    message: str
    fixable: bool = False

    @property
    def way_out(self) -> str:
        """What to do about it."""
        return RULES[self.rule].way_out

    def as_dict(self) -> dict[str, str | int | bool]:
        """Return the finding as it stands in the report for machines."""
        return {
            "path": self.path.as_posix(),
            "line": self.line,
            "column": self.column,
            "rule": self.rule,
            "message": self.message,
            "way_out": self.way_out,
            "fixable": self.fixable,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """
    What a check found.

    Attributes:
        files: Files that were looked at, sorted.
        findings: What is wrong now, after fixes, by file and line.
        fixed: What a fix has repaired; lines are those before the fix.
    """

    files: tuple[Path, ...]
    findings: tuple[Finding, ...]
    fixed: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong now."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return the report for machines; every rule has a count, zeros included."""
        counts = Counter(finding.rule for finding in self.findings)
        return {
            "clean": self.clean,
            "counts": {
                "files": len(self.files),
                "findings": len(self.findings),
                "fixable": sum(finding.fixable for finding in self.findings),
                "fixed": len(self.fixed),
                "by_rule": {code: counts[code] for code in RULES},
            },
            "files": [path.as_posix() for path in self.files],
            "findings": [finding.as_dict() for finding in self.findings],
            "fixed": [finding.as_dict() for finding in self.fixed],
        }


_RULES = (
    Rule(
        code="SPI000",
        summary="a file must be readable as Python",
        way_out="repair the file; nothing else in it was checked",
    ),
    Rule(
        code="SPI001",
        summary="a protocol has no __init__",
        way_out="remove __init__; how an object is made is the implementation's business",
    ),
    Rule(
        code="SPI002",
        summary="the name of a protocol starts with Protocol",
        way_out="rename the class to Protocol<Name>",
    ),
    Rule(
        code="SPI003",
        summary="a protocol is @runtime_checkable",
        way_out="decorate the class with @runtime_checkable (--fix does)",
        fixable=True,
    ),
    Rule(
        code="SPI004",
        summary="the body of a protocol's method is a docstring, an ellipsis or both",
        way_out="make the body `...`, after the docstring if there is one "
        "(--fix does it for pass and raise NotImplementedError)",
        fixable=True,
    ),
    Rule(
        code="SPI005",
        summary="a method that does I/O is async",
        way_out="make it `async def`, or give a blocking variant a name that ends in _sync",
    ),
    Rule(
        code="SPI006",
        summary="a Callable type names its parameters and its result",
        way_out="write Callable[[Parameter, ...], Result] with the real types, or use a ParamSpec",
    ),
    Rule(
        code="SPI007",
        summary="there are no concrete classes, except in _errors.py",
        way_out="make it a protocol, move an error to _errors.py, or move the class out of the SPI",
    ),
    Rule(
        code="SPI008",
        summary="there are no functions outside classes",
        way_out="make it a method of a protocol, or move it out of the SPI",
    ),
    Rule(
        code="SPI009",
        summary="metadata and context mappings hold ContextValue",
        way_out="write dict[str, ContextValue] or Mapping[str, ContextValue]",
    ),
    Rule(
        code="SPI010",
        summary="no two protocols have the same members",
        way_out="keep one of the two and use it in both places, or let one inherit from the other",
    ),
    Rule(
        code="SPI011",
        summary="the name of a protocol is defined once",
        way_out="rename one of the two, or import the one from the other's file",
    ),
    Rule(
        code="SPI012",
        summary="imports come from the standard library, typing_extensions and the SPI itself",
        way_out="describe what is needed by a protocol of the SPI instead of importing it",
    ),
    Rule(
        code="SPI013",
        summary="forward references are plain names under `from __future__ import annotations`",
        way_out="start the file with `from __future__ import annotations` and write the type "
        "without quotes (--fix does)",
        fixable=True,
    ),
    Rule(
        code="SPI014",
        summary="a protocol has a docstring",
        way_out="say in a docstring what an implementation guarantees",
    ),
    Rule(
        code="SPI015",
        summary="a method has complete annotations",
        way_out="annotate every parameter and the result",
    ),
    Rule(
        code="SPI016",
        summary="an SPI only declares: it runs nothing, reads nothing, writes nothing",
        way_out="leave imports, type aliases, type variables, __all__ and protocols; "
        "move the rest out of the SPI",
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.code: rule for rule in _RULES})
"""All rules by code, in order."""

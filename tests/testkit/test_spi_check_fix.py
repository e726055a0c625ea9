"""What the SPI checker repairs, and what it leaves as it is."""

import ast
from pathlib import Path

import pytest

from spile.testkit.spi_check import check_paths

INPUTS = Path(__file__).parent / "spi_rules"

BEFORE = '''\
#!/usr/bin/env python
# Licence line.
"""Clocks, with an “odd” character."""
import typing
from typing import (
    Any,
    Protocol,  # the base
)


# Above the class.
class ProtocolClock(Protocol):  # beside the class
    """Tells the time."""

    zone: "ProtocolZone | None"   # odd   spacing stays

    def now(self) -> "dict[str, 'ProtocolZone']":
        """Return "seconds"."""
        # why
        pass  # nothing

    def set(self, zone: "ProtocolZone", *, é: "Any" = None) -> None: raise NotImplementedError("no")

    def both(self) -> None:
        pass
        raise NotImplementedError(
            "long",
        )


class ProtocolZone(typing.Protocol):
    """A zone."""
    def name(self) -> str:
        """Return the name."""
        ...
        pass
'''

AFTER = '''\
#!/usr/bin/env python
# Licence line.
"""Clocks, with an “odd” character."""
from __future__ import annotations

import typing
from typing import (
    Any,
    Protocol,  # the base
    runtime_checkable,
)


# Above the class.
@runtime_checkable
class ProtocolClock(Protocol):  # beside the class
    """Tells the time."""

    zone: ProtocolZone | None   # odd   spacing stays

    def now(self) -> dict[str, ProtocolZone]:
        """Return "seconds"."""
        # why
        ...  # nothing

    def set(self, zone: ProtocolZone, *, é: Any = None) -> None: ...

    def both(self) -> None:
        ...


@typing.runtime_checkable
class ProtocolZone(typing.Protocol):
    """A zone."""
    def name(self) -> str:
        """Return the name."""
        ...
'''


def fixed(tmp_path: Path, text: str) -> str:
    file = tmp_path / "_clock.py"
    file.write_bytes(text.encode())
    check_paths([file], fix=True)
    return file.read_bytes().decode()


def test_fix_changes_only_what_is_wrong(tmp_path):
    """Decorators, imports, bodies and types are repaired; comments and spacing stay."""
    assert fixed(tmp_path, BEFORE) == AFTER
    ast.parse(AFTER)


def test_fixed_file_is_clean_and_stays_as_it_is(tmp_path):
    """After a fix there is no finding left, and a second fix does not write the file again."""
    file = tmp_path / "_clock.py"
    file.write_text(BEFORE)
    first = check_paths([file], fix=True)
    assert first.clean
    assert {item.rule for item in first.fixed} == {"SPI003", "SPI004", "SPI013"}
    written = file.stat().st_mtime_ns
    second = check_paths([file], fix=True)
    assert (second.findings, second.fixed) == ((), ())
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize("code", ["spi003", "spi004", "spi013"])
def test_inputs_of_fixable_rules_are_repaired(tmp_path, code):
    """A fix leaves of the breaking inputs only the body that holds real code."""
    file = tmp_path / "_clock.py"
    file.write_text((INPUTS / f"{code}_breaks.py").read_text())
    left = check_paths([file], fix=True).findings
    assert [item.message for item in left] == (
        ["ProtocolClock.offset has code in its body"] if code == "spi004" else []
    )
    assert not any(item.fixable for item in left)


@pytest.mark.parametrize(
    ("newline", "mark", "encoding"),
    [("\r\n", b"", "utf-8"), ("\n", b"\xef\xbb\xbf", "utf-8"), ("\n", b"", "latin-1")],
    ids=["crlf", "byte order mark", "latin-1"],
)
def test_fix_keeps_line_ends_and_encoding(tmp_path, newline, mark, encoding):
    """Line ends, byte order mark and declared encoding are those of the file."""
    cookie = "# coding: latin-1\n" if encoding == "latin-1" else ""
    before, after = (cookie + text.replace("“odd”", "ödd") for text in (BEFORE, AFTER))
    file = tmp_path / "_clock.py"
    file.write_bytes(mark + before.replace("\n", newline).encode(encoding))
    assert check_paths([file], fix=True).clean
    assert file.read_bytes() == mark + after.replace("\n", newline).encode(encoding)


IMPORTS = {
    "no docstring": (
        """\
from typing import Protocol, runtime_checkable
@runtime_checkable
class ProtocolA(Protocol):
    '''A.'''
    a: "int"
""",
        """\
from __future__ import annotations
from typing import Protocol, runtime_checkable
""",
    ),
    "semicolon": (
        """\
"Doc."; import typing as t
class ProtocolA(t.Protocol):
    "A."
    a: "int\"""",
        """\
"Doc."; from __future__ import annotations; import typing as t
@t.runtime_checkable
class""",
    ),
    "foreign protocol": (
        """\
from ._compat import Protocol
class ProtocolA(Protocol):
    "A."
    def f(self) -> None: pass; pass""",
        """\
from typing import runtime_checkable
from ._compat import Protocol
@runtime_checkable
class""",
    ),
    "brackets": (
        """\
from __future__ import annotations
from typing import (
    Protocol
)
class ProtocolA(Protocol):
    "A."
    a: ("in"
        "t")
""",
        """\
from __future__ import annotations
from typing import (
    Protocol,
    runtime_checkable
)
@runtime_checkable
class""",
    ),
}


@pytest.mark.parametrize(("before", "after"), IMPORTS.values(), ids=IMPORTS)
def test_imports_are_added_where_they_fit(tmp_path, before, after):
    """Imports that a fix needs stand where Python accepts them, whatever the file looks like."""
    result = fixed(tmp_path, before)
    assert result.replace("\n\n", "\n").startswith(after)
    compile(result, "_clock.py", "exec")
    assert check_paths([tmp_path]).clean


@pytest.mark.parametrize(
    "code",
    [
        "    def f(self) -> None:\n        raise NotImplementedError(  # why\n        )\n",
        '    a: (\n        "int"  # why\n        " | str"\n    )\n',
        '    a: "not a type"\n',
        "    def f(self) -> int:\n        self.a = 1\n        raise NotImplementedError\n",
    ],
    ids=["comment in raise", "comment in type", "no type", "real code"],
)
def test_fix_that_would_lose_something_is_not_made(tmp_path, code):
    """Where a repair would drop a comment or code, the finding is not fixable."""
    text = (
        "from __future__ import annotations\nfrom typing import Protocol, runtime_checkable\n\n\n"
        f'@runtime_checkable\nclass ProtocolA(Protocol):\n    """A."""\n\n{code}'
    )
    assert fixed(tmp_path, text) == text
    assert [item.fixable for item in check_paths([tmp_path]).findings] == [False]

"""Each rule of the SPI checker on an input that breaks it and on one that keeps it."""

import re
from pathlib import Path

import pytest

from spile.testkit.spi_check import RULES, CheckInputError, check_paths, default_path

INPUTS = Path(__file__).parent / "spi_rules"
CODES = [code for code in RULES if code != "SPI000"]


def input_path(name: str) -> Path:
    folder = INPUTS / name
    return folder if folder.is_dir() else INPUTS / f"{name}.py"


def expected(path: Path) -> list[tuple[str, int, str]]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [
        (file.name, number, code)
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for code in re.findall(r"# expect: (SPI\d+)", line)
    ]


def test_there_are_sixteen_rules():
    """The rules are SPI001 to SPI016, and 003, 004 and 013 can be fixed."""
    assert [f"SPI{number:03}" for number in range(1, 17)] == CODES
    assert [code for code in CODES if RULES[code].fixable] == ["SPI003", "SPI004", "SPI013"]


@pytest.mark.parametrize("code", CODES)
def test_input_that_breaks_a_rule_is_found_out(code):
    """Every marked line gets exactly its finding, and no line another one."""
    path = input_path(f"{code.lower()}_breaks")
    found = [(item.path.name, item.line, item.rule) for item in check_paths([path]).findings]
    marked = expected(path)
    assert {rule for _, _, rule in marked} == {code}
    assert marked == found


@pytest.mark.parametrize("code", CODES)
def test_input_that_keeps_a_rule_is_clean(code):
    """Code that comes close to breaking a rule without doing so has no finding at all."""
    assert check_paths([input_path(f"{code.lower()}_keeps")]).findings == ()


def test_own_interface_is_clean():
    """The contracts of this project keep all rules."""
    report = check_paths([default_path()])
    assert report.findings == ()
    assert len(report.files) > 5


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"x = 1\nclass (:\n", 2, "syntax error"),
        (b"a = '\x00'\n", 1, ""),
        (b"# \xff\n", 1, ""),
        (b"# coding: no-such-code\n", 1, "syntax error"),
        (b"x = " + b"(" * 9999, 1, ""),
    ],
    ids=["syntax", "null byte", "not utf-8", "unknown encoding", "too deep"],
)
def test_file_that_is_not_python_is_a_finding(tmp_path, data, line, words):
    """A file that cannot be parsed is reported; the files beside it are still checked."""
    (tmp_path / "broken.py").write_bytes(data)
    (tmp_path / "other.py").write_text("def alone() -> None: ...\n")
    found = check_paths([tmp_path], fix=True).findings
    assert [(item.path.name, item.rule) for item in found] == [
        ("broken.py", "SPI000"),
        ("other.py", "SPI008"),
    ]
    assert found[0].line == line
    assert words in found[0].message


def test_empty_file_is_clean(tmp_path):
    """A file without a statement breaks nothing, and a fix leaves it empty."""
    (tmp_path / "__init__.py").write_text("")
    assert check_paths([tmp_path], fix=True).clean
    assert (tmp_path / "__init__.py").read_text() == ""


@pytest.mark.parametrize("name", ["missing", "notes.txt", "empty"])
def test_nothing_to_check_is_an_error(tmp_path, name):
    """A missing path, a file that is not Python and a folder without Python are refused."""
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckInputError, match=name):
        check_paths([tmp_path / name])


def test_absolute_import_of_own_package_is_allowed(tmp_path):
    """Inside `src/acme/spi`, `acme.spi` is the SPI itself and `acme.core` is not."""
    package = tmp_path / "src" / "acme" / "spi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from acme.spi._a import A\nfrom acme.core import B\n")
    found = check_paths([package]).findings
    assert [(item.rule, item.line) for item in found] == [("SPI012", 2)]


def test_type_is_understood_inside_quotes(tmp_path):
    """Quoting a type does not hide an incomplete Callable or a loose mapping from the rules."""
    file = tmp_path / "quoted.py"
    file.write_text(
        "from typing import *\n\n\n@runtime_checkable\nclass ProtocolX(Protocol):\n"
        '    """X."""\n\n    hook: "Callable[..., Any]"\n    metadata: list["dict[str, Any]"]\n'
    )
    rules = [item.rule for item in check_paths([file]).findings]
    assert rules == ["SPI006", "SPI013", "SPI009", "SPI013"]

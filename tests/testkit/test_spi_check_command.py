"""The command `spile spi check`: what it prints, writes and ends with."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from spile.services.command._spi import spi

INPUTS = Path(__file__).parent / "spi_rules"


def run(*arguments: object):
    return CliRunner().invoke(spi, ["check", *map(str, arguments)])


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one staged and one unstaged file, both wrong."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q")
    (tmp_path / "staged file.py").write_text("def staged() -> None: ...\n")
    (tmp_path / "unstaged.py").write_text("def unstaged() -> None: ...\n")
    (tmp_path / "notes.txt").write_text("no code")
    git(tmp_path, "add", "staged file.py", "notes.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_installed_interface_is_checked_by_default():
    """Without a path the contracts of spile are checked, and they are clean."""
    result = run()
    assert (result.exit_code, result.output.endswith("files checked, 0 findings\n")) == (0, True)


def test_finding_names_place_and_way_out(monkeypatch):
    """Each finding is `path:line: rule message`, with the way out on the next line."""
    monkeypatch.chdir(INPUTS)
    result = run("spi001_breaks.py")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "spi001_breaks.py:10: SPI001 ProtocolClock has an __init__",
        "    way out: remove __init__; how an object is made is the implementation's business",
        "1 file checked, 1 finding",
    ]


@pytest.mark.parametrize("path", ["missing", "."])
def test_path_without_python_is_bad_usage(tmp_path, monkeypatch, path):
    """A path that does not exist or holds no Python file ends with 2."""
    monkeypatch.chdir(tmp_path)
    assert run(path).exit_code == 2


def test_report_for_machines_has_every_count(tmp_path):
    """The JSON report holds the findings, and a count for every rule."""
    report = tmp_path / "report.json"
    result = run(INPUTS / "spi003_breaks.py", "--json-report", report)
    content = json.loads(report.read_text())
    assert result.exit_code == 1
    assert content["counts"]["by_rule"]["SPI003"] == 2
    assert content["counts"]["by_rule"]["SPI016"] == 0
    assert (content["counts"]["files"], content["clean"]) == (1, False)
    assert [(item["rule"], item["line"], item["fixable"]) for item in content["findings"]] == [
        ("SPI003", 7, True),
        ("SPI003", 13, True),
    ]


def test_report_that_cannot_be_written_is_bad_usage(tmp_path):
    """A report in a folder that does not exist ends with 2 and says so."""
    result = run(INPUTS / "spi003_keeps.py", "--json-report", tmp_path / "none" / "report.json")
    assert (result.exit_code, "cannot write" in result.output) == (2, True)


def test_fix_repairs_and_then_ends_with_zero(tmp_path):
    """When a fix leaves nothing wrong the command ends with 0 and says what it repaired."""
    file = tmp_path / "_clock.py"
    file.write_text((INPUTS / "spi003_breaks.py").read_text())
    result = run(file, "--fix")
    assert result.exit_code == 0
    assert result.output.count("fixed SPI003") == 2
    assert run(file).exit_code == 0


def test_pre_commit_checks_what_is_staged(repository):
    """The quick mode looks only at staged Python files, one line per finding."""
    result = run("--pre-commit")
    assert result.exit_code == 1
    assert result.output == ("staged file.py:1: SPI008 staged is a function outside a class\n")


def test_pre_commit_checks_given_paths(repository):
    """The quick mode checks the paths that it is given, staged or not."""
    result = run("--pre-commit", "unstaged.py")
    assert result.output == "unstaged.py:1: SPI008 unstaged is a function outside a class\n"


def test_pre_commit_with_nothing_staged_is_silent(repository):
    """Nothing staged means nothing to say."""
    git(repository, "rm", "-q", "--cached", "staged file.py")
    assert (run("--pre-commit").output, run("--pre-commit").exit_code) == ("", 0)


def test_pre_commit_outside_a_repository_is_bad_usage(tmp_path, monkeypatch):
    """Where git knows nothing, the quick mode ends with 2 and names the reason."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    result = run("--pre-commit")
    assert (result.exit_code, "git cannot say" in result.output) == (2, True)

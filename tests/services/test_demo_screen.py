"""What the demo prints for a person to type."""

from __future__ import annotations

import sys

import pytest

from spile.services.demo._run import spile_command


@pytest.fixture
def without_spile(monkeypatch, tmp_path):
    """No `spile` on the path, and a folder beside whose `bin` this Python seems to be."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    return tmp_path


def test_a_command_is_named_as_this_shell_finds_it(without_spile, monkeypatch):
    """By the path to it, short from the project's folder, where `.venv` is not activated."""
    monkeypatch.chdir(without_spile)
    assert spile_command() == ".venv/bin/spile"
    (without_spile / "elsewhere").mkdir()
    monkeypatch.chdir(without_spile / "elsewhere")
    assert spile_command() == str(without_spile / ".venv" / "bin" / "spile")
    found = without_spile / "spile"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    assert spile_command() == "spile"

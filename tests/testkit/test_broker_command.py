"""`spile up`, `down` and `status`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from spile.services.command._broker import down, status, up
from spile.testkit.broker import (
    ClusterFolder,
    cluster_view,
    standing_bootstrap_servers,
    standing_folder,
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A home of its own; whatever was started there is ended."""
    monkeypatch.setenv("SPILE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SPILE_BOOTSTRAP_SERVERS", raising=False)
    yield tmp_path / "home"
    standing_folder(tmp_path / "home").end()


def call(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


@pytest.mark.kafka
def test_up_stays_is_found_and_ends(home: Path) -> None:
    """What `up` starts stays; a second `up` keeps it, `status` finds it, `down` ends it."""
    first = call(up)
    assert first.exit_code == 0, first.output
    address = first.stdout.strip().removeprefix("export SPILE_BOOTSTRAP_SERVERS=")
    assert cluster_view(address) is not None
    assert standing_bootstrap_servers() == address

    mark = standing_folder(home).mark(1)
    again = call(up)
    assert again.stdout == first.stdout
    assert standing_folder(home).mark(1) == mark
    assert call(status).exit_code == 0
    assert address in call(status).output

    assert call(down).exit_code == 0
    assert not mark.alive
    assert call(status).exit_code == 1
    assert standing_bootstrap_servers() is None


@pytest.mark.kafka
def test_data_option_chooses_the_folder(home: Path, tmp_path: Path) -> None:
    """`--data` puts everything in that folder, where `down` finds it, and can delete it."""
    result = call(up, "--data", str(tmp_path / "elsewhere"))
    assert result.exit_code == 0, result.output
    assert ClusterFolder(path=tmp_path / "elsewhere").running() == [1]

    other = call(up, "--data", str(tmp_path / "second"))
    assert other.exit_code == 1
    assert "is up; end it with `spile down` first" in other.output

    assert call(down, "--delete-data").exit_code == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.kafka
def test_given_broker_is_used_instead(
    home: Path, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SPILE_BOOTSTRAP_SERVERS set, `up` starts nothing and `status` asks that broker."""
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", kafka)

    result = call(up)

    assert result.exit_code == 0
    assert f"export SPILE_BOOTSTRAP_SERVERS={kafka}" in result.stdout
    assert call(status).exit_code == 0
    assert standing_folder(home).running() == []


def test_given_broker_that_does_not_answer_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address where nothing speaks Kafka ends `up` and `status` with one clear line."""
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    for command in (up, status):
        result = call(command)
        assert result.exit_code == 1
        assert "127.0.0.1:1, and nothing there speaks Kafka" in result.output


def test_nothing_started_is_status_1(home: Path) -> None:
    """Before any `up`, `status` ends with 1 and says which command starts one; `down` is fine."""
    result = call(status)

    assert result.exit_code == 1
    assert "`spile up` starts one" in result.output
    assert call(down).exit_code == 0

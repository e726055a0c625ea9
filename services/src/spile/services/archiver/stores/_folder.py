"""An archive in a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

from spile.services.archiver.stores._values import (
    ArchiveRefusedError,
    ArchiveUnavailableError,
    ObjectMissingError,
    StoredObject,
)

_INCOMING: Final = ".incoming"
_LEFT_BEHIND_S: Final = 86_400.0
_PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_REFUSED: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP}


class FolderStore:
    """
    Keeps objects as files, for the owner only; satisfies `ArchiveStore`.

    A file appears under its name when it is whole and on the disk: it is written aside and linked,
    which fails when the name is taken. Symbolic links are never followed below the root.

    Args:
        root: Made when there is none.
        read_only: Make and write nothing, so that a folder which others own can be looked at.

    Raises:
        ArchiveRefusedError: It cannot be made or written.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        if read_only:
            with _translated(root):
                self._root = root.resolve(strict=True)
            return
        with _translated(root):
            root.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._root = root.resolve(strict=True)
            (self._root / _INCOMING).mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            self._sweep()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._root)

    def put(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is free; see `ArchiveStore.put`."""
        target = self._path(key)
        with _translated(target):
            aside = self._root / _INCOMING / f"{os.getpid()}-{secrets.token_hex(8)}"
            try:
                _write(aside, data)
                self._make_folders(target.parent)
                try:
                    os.link(aside, target, follow_symlinks=False)
                    is_new = True
                except FileExistsError:
                    is_new = False
                # Also for what is there: whoever linked it may have died before it came this far.
                _sync_folder(target.parent)
            finally:
                aside.unlink(missing_ok=True)
        return is_new

    def stat(self, key: str) -> StoredObject | None:
        """Return the size of a file; a folder keeps no checksums."""
        path = self._path(key)
        with _translated(path):
            try:
                self._check_links(path)
                found = path.stat(follow_symlinks=False)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(found.st_mode):
            raise ArchiveRefusedError(f"archive {self._root}: {key!r} is no regular file")
        return StoredObject(key=key, size_bytes=found.st_size)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open a file; see `ArchiveStore.open`."""
        if self.stat(key) is None:
            raise ObjectMissingError(f"archive {self._root} has no {key!r}", key=key)
        path = self._path(key)
        with _translated(path):
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[StoredObject]:
        """Return the files below the root; links are told as files and cannot be opened."""
        folder, _, _ = prefix.rpartition("/")
        start = self._path(folder) if folder else self._root
        with _translated(start):
            for key, size_bytes in self._walk(start, f"{folder}/" if folder else "", after):
                if key.startswith(prefix) and _bytes(key) > _bytes(after):
                    yield StoredObject(key=key, size_bytes=size_bytes)

    def _walk(self, folder: Path, lead: str, after: str) -> Iterator[tuple[str, int]]:
        try:
            self._check_links(folder)
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        named = [
            (f"{lead}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}", entry)
            for entry in entries
            if lead or entry.name != _INCOMING
        ]
        for key, entry in sorted(named, key=lambda item: _bytes(item[0])):
            if not key.endswith("/"):
                yield key, entry.stat(follow_symlinks=False).st_size
            elif _bytes(key) > _bytes(after) or after.startswith(key):
                yield from self._walk(Path(entry.path), key, after)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        wrong = any(part in {"", ".", ".."} or "\0" in part for part in parts)
        if wrong or parts[0] == _INCOMING:
            raise ArchiveRefusedError(f"archive {self._root}: {key[:200]!r} is no key")
        return self._root.joinpath(*parts)

    def _check_links(self, path: Path) -> None:
        for folder in (path, *path.parents):
            if folder == self._root:
                return
            if folder.is_symlink():
                shown = folder.relative_to(self._root).as_posix()
                raise ArchiveRefusedError(
                    f"archive {self._root}: {shown!r} is a symbolic link, which is never followed"
                )

    def _make_folders(self, folder: Path) -> None:
        self._check_links(folder)
        missing: list[Path] = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            _sync_folder(path.parent)

    def _sweep(self) -> None:
        """Remove what writers left behind that were killed long ago."""
        limit = time.time() - _LEFT_BEHIND_S
        for entry in os.scandir(self._root / _INCOMING):
            with contextlib.suppress(FileNotFoundError):  # a writer that lives is done with it
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    Path(entry.path).unlink(missing_ok=True)


def _bytes(key: str) -> bytes:
    return os.fsencode(key)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(path: Path) -> Generator[None]:
    """
    Raise errors of ours for those of the file system.

    Raises:
        ArchiveRefusedError: It is not allowed, or not what it should be.
        ArchiveUnavailableError: Anything else: a full disk can be freed, a lost mount comes back.
    """
    try:
        yield
    except OSError as exc:
        what = f"archive: {path}: {exc.strerror or type(exc).__name__}"
        if exc.errno in _REFUSED:
            raise ArchiveRefusedError(what) from exc
        raise ArchiveUnavailableError(what) from exc

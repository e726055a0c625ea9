"""Letters kept byte for byte in a file, before a purge marks them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from spile.adapters.dead_letters import DeadLetter
from spile.spi import ProtocolRecord, SpileError

_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_MANY = 200


class KeptFileError(SpileError):
    """Raised when a file does not hold what was written to it; nothing was purged."""


class LetterFile:
    """
    One file of letters: a line of JSON each, bytes in base64 (RFC 4648, section 4).

    Readable by its owner only: letters hold what producers sent, secrets included.

    Args:
        folder: Made when it is not there.
        queue: Full name of the queue; part of the file's name.
    """

    def __init__(self, folder: Path, queue: str) -> None:
        self._folder = folder
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self._names = (
            folder / f"{queue}-{moment}{f'-{number}' if number else ''}.jsonl"
            for number in itertools.count()
        )
        self._path: Path | None = None

    @property
    def path(self) -> Path | None:
        """The file; None while there was no letter to keep."""
        return self._path

    async def keep(self, letters: AsyncIterator[DeadLetter]) -> int:
        """
        Write letters, force them to the disk, read them back, and return how many.

        Raises:
            KeptFileError: The file cannot be written, or what was read back is not what was
                written.
        """
        try:
            return await self._keep(letters)
        except OSError as exc:
            reason = (exc.strerror or type(exc).__name__).lower()
            raise KeptFileError(
                f"letters cannot be kept in {self._path or self._folder}: {reason}; nothing was "
                "purged: free the place, or name another folder"
            ) from exc

    async def _keep(self, letters: AsyncIterator[DeadLetter]) -> int:
        count, wrote = 0, hashlib.sha256()
        file: BinaryIO | None = None
        try:
            async for letter in letters:
                if file is None:
                    file = await asyncio.to_thread(self._create)
                wrote.update(_fingerprint(_facts(letter.record)))
                await asyncio.to_thread(file.write, line_of(letter.record))
                count += 1
            if file is not None:
                await asyncio.to_thread(self._settle, file)
        finally:
            if file is not None:
                await asyncio.to_thread(file.close)
        if self._path is not None:
            found = await asyncio.to_thread(_read_back, self._path)
            if found != (count, wrote.hexdigest()):
                raise KeptFileError(
                    f"{self._path} does not hold the {count} letters that were written to it; "
                    "nothing was purged"
                )
        return count

    def _create(self) -> BinaryIO:
        self._folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        for path in itertools.islice(self._names, _MANY):
            try:
                number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
            except FileExistsError:
                continue
            self._path = path
            return os.fdopen(number, "wb")
        raise KeptFileError(f"{self._folder} has too many files of this second")

    def _settle(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name too
        finally:
            os.close(folder)


def line_of(record: ProtocolRecord) -> bytes:
    """Return a record as a line of JSON that gives its bytes back."""
    return json.dumps(_facts(record), separators=(",", ":")).encode() + b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what stands in a file of letters, with key, value and headers as bytes."""
    with closing(path.open("rb")) as file:
        for line in file:
            facts = json.loads(line)
            yield {
                **facts,
                "key": _bytes(facts["key"]),
                "value": _bytes(facts["value"]),
                "headers": [(name, _bytes(data)) for name, data in facts["headers"]],
            }


def _facts(record: ProtocolRecord) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(data)] for name, data in record.headers],
    }


def _read_back(path: Path) -> tuple[int, str]:
    count, read = 0, hashlib.sha256()
    for facts in read_lines(path):
        again = {
            **facts,
            "key": _text(facts["key"]),
            "value": _text(facts["value"]),
            "headers": [[name, _text(data)] for name, data in facts["headers"]],
        }
        read.update(_fingerprint(again))
        count += 1
    return count, read.hexdigest()


def _fingerprint(facts: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)

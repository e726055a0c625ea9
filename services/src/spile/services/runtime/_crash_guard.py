"""
Finding the record that kills the process.

A file names what is being decoded; a process that dies leaves the name behind. What a dead process
had in hand is decoded one by one by the next, and what killed that one too is not decoded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Generator, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from spile.spi import PartitionKey, ProtocolRecord, RetriableError

log = structlog.get_logger(__name__)

_FATAL: Final = 2
"""Deaths after which a record is left alone."""

_PRIVATE: Final = 0o600


class _Span(msgspec.Struct, frozen=True, array_like=True):
    """Offsets of one partition."""

    topic: str
    partition: int
    first: int
    last: int


class _InHand(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What is being decoded, and how many processes died over it before.

    Fatal is what earlier processes found, until it is out of the way: a batch may hold several
    such records, and who forgets one while it looks for the next never gets past them.
    """

    spans: list[_Span]
    deaths: int
    fatal: list[_Span] = []


class CrashGuard:
    """
    Remembers what is in hand in a file beside the store, so that the next process knows it.

    Guards against the death of the process (a signal, a crash of native code, the end of memory),
    not of the machine: nothing is forced to the disk.

    Args:
        path: The file; its folder must be there. Further processes beside the first one take files
            with a number behind that name.
    """

    def __init__(self, path: Path) -> None:
        self._file = _take(path)
        self._encode = msgspec.json.Encoder().encode
        self._deaths = 0
        self._suspects: dict[PartitionKey, list[range]] = {}
        self._fatal: dict[PartitionKey, list[range]] = {}
        self._read(path)

    def _read(self, path: Path) -> None:
        data = os.read(self._number, os.fstat(self._number).st_size)
        if not data:
            return
        try:
            left = msgspec.json.decode(data, type=_InHand)
        except msgspec.DecodeError:
            log.warning("what a dead process had in hand is not readable", file=path.name)
            return
        _note(left.fatal, self._fatal)
        if not left.spans:
            return
        self._deaths = left.deaths + 1
        _note(left.spans, self._fatal if self._deaths >= _FATAL else self._suspects)
        log.warning(
            "the last process died over records, they are handled one by one",
            records=sum(span.last - span.first + 1 for span in left.spans),
            deaths=self._deaths,
        )

    @property
    def _number(self) -> int:
        """
        The file's descriptor; a closed guard has none.

        A thread that still decodes must not write to whatever file has the number by then.
        """
        return self._file.fileno()

    def is_suspect(self, record: ProtocolRecord) -> bool:
        """Return whether a process died while this record was in hand."""
        return _has(self._suspects, record) or _has(self._fatal, record)

    def is_fatal(self, record: ProtocolRecord) -> bool:
        """Return whether two processes died over this record alone: it must not be decoded."""
        return _has(self._fatal, record)

    @contextlib.contextmanager
    def holding(self, records: Sequence[ProtocolRecord]) -> Generator[None]:
        """
        Have records in hand while this lasts; a process that dies within leaves word.

        Raises:
            RetriableError: Word cannot be left, such as on a full disk; nothing was begun.
        """
        deaths = self._deaths if any(map(self.is_suspect, records)) else 0
        self._write(_spans(records), deaths)
        try:
            yield
        finally:
            self._clear()

    def _clear(self) -> None:
        """Leave only what must not be decoded."""
        if self._fatal:
            with contextlib.suppress(RetriableError):
                self._write([], 0)
        else:
            os.ftruncate(self._number, 0)

    def _write(self, spans: list[_Span], deaths: int) -> None:
        fatal = [
            _Span(*place, offsets[0], offsets[-1])
            for place, ranges in self._fatal.items()
            for offsets in ranges
        ]
        data = self._encode(_InHand(spans=spans, deaths=deaths, fatal=fatal))
        try:
            written = os.pwrite(self._number, data, 0)
            os.ftruncate(self._number, written)
            reason = "no space left on device"
        except OSError as exc:
            written, reason = 0, (exc.strerror or str(exc)).lower()
        if written != len(data):
            with contextlib.suppress(OSError):
                os.ftruncate(self._number, 0)
            raise RetriableError(f"what is in hand cannot be noted: {reason}")

    def passed(self, records: Sequence[ProtocolRecord]) -> None:
        """Clear the suspicion of records that were handled to their end."""
        if not self._suspects and not self._fatal:
            return
        spans = _spans(records)
        _forget(spans, self._suspects)
        if _forget(spans, self._fatal):
            self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _take(path: Path) -> FileIO:
    """Open the first of the files that no living process has."""
    for number in itertools.count(1):
        chosen = path if number == 1 else path.with_name(f"{path.name}-{number}")
        file = os.open(chosen, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return FileIO(file, "r+")
    raise AssertionError("there is no end of numbers")


def _spans(records: Sequence[ProtocolRecord]) -> list[_Span]:
    """Return the offsets of records by partition; those between them count too."""
    found: dict[PartitionKey, tuple[int, int]] = {}
    for record in records:
        place = (record.topic, record.partition)
        first, last = found.get(place, (record.offset, record.offset))
        found[place] = (min(first, record.offset), max(last, record.offset))
    return [_Span(*place, *span) for place, span in found.items()]


def _note(spans: Sequence[_Span], into: dict[PartitionKey, list[range]]) -> None:
    for span in spans:
        offsets = range(span.first, span.last + 1)
        into.setdefault((span.topic, span.partition), []).append(offsets)


def _has(noted: dict[PartitionKey, list[range]], record: ProtocolRecord) -> bool:
    spans = noted.get((record.topic, record.partition), ())
    return any(record.offset in offsets for offsets in spans)


def _forget(passed: Sequence[_Span], noted: dict[PartitionKey, list[range]]) -> bool:
    """Leave out what ends no later than what was passed; return whether there was any."""
    forgotten = False
    for span in passed:
        place = (span.topic, span.partition)
        spans = noted.get(place, [])
        left = [offsets for offsets in spans if offsets[-1] > span.last]
        forgotten = forgotten or len(left) < len(spans)
        if left:
            noted[place] = left
        else:
            noted.pop(place, None)
    return forgotten

"""The written half of the ledger: one JSON line per step, one file per process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class Outcome(StrEnum):
    """How far a call has come."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One line of a history.

    Attributes:
        outcome: `invoke` before the call; afterwards `ok`, `fail` (provably not sent) or `info`.
        event_id: Id of the event; the same in every attempt.
        key: Record key; one writer per key.
        seq: Number of the event within its key, from 0.
        moment_ns: Monotonic time of the machine in nanoseconds.
        topic: Where it was acknowledged.
        partition: The same.
        offset: The same; None where the publisher does not tell.
        error: Why it did not succeed.
    """

    outcome: Outcome
    event_id: str
    key: str = ""
    seq: int = 0
    moment_ns: int = 0
    topic: str = ""
    partition: int = -1
    offset: int | None = None
    error: str = ""


class History:
    """
    Appends to one file, a line per write call, so that a kill tears at most the last line.

    Args:
        path: Created when missing; several processes never share one.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def note(self, outcome: Outcome, event_id: str, **facts: Any) -> None:
        """
        Write one entry, stamped with the monotonic time.

        Raises:
            OSError: The file cannot be written; the run is worth nothing then.
        """
        entry = Entry(outcome=outcome, event_id=event_id, moment_ns=time.monotonic_ns(), **facts)
        os.write(self._file, self._encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_history(folder: Path) -> list[Entry]:
    """
    Return the entries of all `*.jsonl` files of a folder, in the order of time.

    A last line without an end, as a kill leaves it, is dropped.

    Raises:
        UndecodableLedgerError: A line in the middle is damaged.
    """
    entries = [entry for path in sorted(folder.glob("*.jsonl")) for entry in _entries(path)]
    return sorted(entries, key=lambda entry: entry.moment_ns)


class UndecodableLedgerError(ValueError):
    """Raised when a history is damaged in the middle."""


def _entries(path: Path) -> Iterator[Entry]:
    lines = path.read_bytes().split(b"\n")
    lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            yield msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError as exc:
            raise UndecodableLedgerError(f"{path}:{number}: {exc}") from exc

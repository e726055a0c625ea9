"""What stands in the table, and what the relay needs of a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from spile.adapters.delivery import OutgoingRecord, WireHeaders
from spile.adapters.publishing import Encoded

CLEAN_S: Final = 1.0
"""Longest that rows are cleaned away in one go, in seconds: events wait for it meanwhile."""


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """
    One event that waits for the relay.

    Attributes:
        row_id: Rows of one key are published in the order of their ids.
        record: What is published, byte for byte.
    """

    row_id: int
    record: OutgoingRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRow:
    """
    One event that the bus refused; the later ones of its key wait behind it.

    Attributes:
        row_id: For `retry` and `drop`.
        event_id: Its id.
        topic: Where it was to go.
        reason: Why the bus refused it.
        waiting: How many rows wait behind it.
    """

    row_id: int
    event_id: str
    topic: str
    reason: str
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCounts:
    """
    How full the table is.

    Attributes:
        pending: Rows that are neither sent nor refused.
        stuck: Rows that were refused.
        sent: Rows that were sent and not cleaned away yet; 0 where they were not counted.
        oldest_s: Age in seconds of the oldest pending row; 0 without one.
    """

    pending: int
    stuck: int
    sent: int
    oldest_s: float


class OutboxStore(Protocol):
    """
    The table as the relay sees it; one task at a time uses it.

    Every call raises `BrokerUnavailableError` while the database is away; the next one connects
    anew.
    """

    async def lead(self) -> bool:
        """Become, or stay, the one relay of the table; False while another is."""
        ...

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        """Return the first rows to publish, in order, without those behind a refused one."""
        ...

    async def settle(self, sent: Collection[int], refused: Mapping[int, str]) -> None:
        """
        Note what became of rows, durably.

        Raises:
            ClosedError: Another is the relay by now; nothing was noted.
        """
        ...

    async def news(self, timeout_s: float) -> None:
        """Return when something was written, or the time is up."""
        ...

    async def clean(self, older_than: timedelta) -> int:
        """Delete rows that were sent so long ago, for about a second; how many were."""
        ...

    async def counts(self, *, sent: bool = True) -> OutboxCounts:
        """Count the rows; those that were sent, which takes as long as they are many, on demand."""
        ...

    async def close(self) -> None:
        """Let another lead, and disconnect; never raises."""
        ...


def headers_json(encoded: Encoded) -> str:
    """Return headers as the table holds them; ours are all text."""
    pairs = [(name, value.decode()) for name, value in encoded.record.headers]
    return msgspec.json.encode(pairs).decode()


def row_of(row_id: int, topic: str, key: bytes, value: bytes, headers: str) -> OutboxRow:
    """Return a row as the table holds it."""
    pairs = msgspec.json.decode(headers, type=list[tuple[str, str]])
    wire: WireHeaders = [(name, text.encode()) for name, text in pairs]
    return OutboxRow(row_id, OutgoingRecord(topic, key, value, wire))

"""What a store of events takes, gives and promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias
from uuid import UUID

import msgspec

from spile.spi import (
    ClosedError,
    PartitionKey,
    PermanentError,
    ProtocolOffsetStore,
    RetriableError,
    UndecodableError,
)
from spile.topics import Catalogue


class Row(NamedTuple):
    """
    One event as a store keeps it; the order is that of the table's columns.

    Attributes:
        event_id: 16 bytes; stores know events by it.
        recorded_ms: Record time, milliseconds since 1970 UTC.
        happened_us: Event time, microseconds since 1970 UTC.
        correlation_id: 16 bytes.
        causation_id: 16 bytes.
        session_id: Where the payload has one; so are agent_id and tool_name.
        envelope: The record's value as text.
        headers: JSON list of name and value; a value that is not UTF-8 is `{"base64": ...}`.
    """

    event_id: bytes
    topic: str
    partition: int
    offset: int
    recorded_ms: int
    happened_us: int
    event_type: str
    service: str
    correlation_id: bytes
    causation_id: bytes | None
    session_id: str | None
    agent_id: str | None
    tool_name: str | None
    key: bytes | None
    envelope: str
    headers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    What one batch holds of one partition.

    Attributes:
        partition: Topic and partition.
        first: Offset of the first record that was read, stored or not.
        next: Offset after the last one.
        rows: In the order of their offsets; records that are not stored leave holes.
        is_returned: The partition is one of a retry topic: the rows have topic, partition and
            offset of where they stood at first.
    """

    partition: PartitionKey
    first: int
    next: int
    rows: Sequence[Row]
    is_returned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """
    What became of the rows of one batch.

    Attributes:
        inserted: New rows.
        duplicates: Rows whose event was there already, under another offset.
        stale: Rows below the stored offset: an earlier batch brought them.
        jumped: Offsets that no record had, between the stored one (0 when there was none) and the
            first of a run.
    """

    inserted: int
    duplicates: int = 0
    stale: int = 0
    jumped: int = 0


GroupColumn: TypeAlias = Literal["event_type", "service", "tool_name", "topic"]
"""What events can be counted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """
    Which events to read; what is None does not filter.

    Attributes:
        since: Events that happened at this moment or later.
        until: Events that happened before this moment.
        after_seq: Rows that were stored after this one; the result is then in the order of storing.
        limit: Most rows, the newest ones; without `after_seq` they come in the order of happening.
    """

    event_type: str | None = None
    service: str | None = None
    session_id: str | None = None
    tool_name: str | None = None
    correlation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    after_seq: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """
    One event as it was stored.

    Attributes:
        seq: Place in the order of storing, from 1.
        recorded_at: Record time.
        happened_at: Event time.
        envelope: JSON text.
    """

    seq: int
    event_id: UUID
    topic: str
    partition: int
    offset: int
    recorded_at: datetime
    happened_at: datetime
    event_type: str
    service: str
    correlation_id: UUID
    causation_id: UUID | None
    session_id: str | None
    agent_id: str | None
    tool_name: str | None
    key: bytes | None
    envelope: str
    headers: str

    def newest(self, catalogue: Catalogue) -> dict[str, Any]:
        """
        Return the envelope with the payload as the newest version of its schema has it.

        The stored bytes stay as they came. What the catalogue does not know, or cannot upcast, is
        returned as it is stored.
        """
        envelope: dict[str, Any] = msgspec.json.decode(self.envelope)
        environment = self.topic.partition(".")[0]
        contracts = catalogue.contracts(self.topic, (environment,))
        contract = None if contracts is None else contracts.get(self.event_type)
        version = dict(msgspec.json.decode(self.headers)).get("schema_version")
        if contract is None or not isinstance(version, str):
            return envelope
        try:
            payload = contract.upcast(msgspec.json.encode(envelope["payload"]), version)
        except UndecodableError:
            return envelope
        return {**envelope, "payload": msgspec.json.decode(payload)}


class EventStore(ProtocolOffsetStore, Protocol):
    """
    A store that keeps events and, in the same transaction, the offsets to read next.

    An event is stored once, whatever is delivered again: by its id, and by its offset.
    """

    async def append(self, batch: Sequence[Run]) -> Appended:
        """
        Store the rows of a batch and move the offsets, all or nothing; durable on return.

        Rows below the stored offset are left out: they are there already.

        Raises:
            StoreUnavailableError: The store is locked, full or not reachable; nothing was stored.
            StaleOffsetsError: The stored offset is not where this writer left it: somebody else
                writes, or it was reset. Nothing was stored; read the offsets anew.
            StoreDamagedError: The store cannot be trusted.
        """
        ...

    async def query(self, which: EventFilter) -> Sequence[StoredEvent]:
        """Return events; raises as `append`."""
        ...

    async def count(self, which: EventFilter) -> int:
        """Count events, whatever the limit; raises as `append`."""
        ...

    async def count_by(self, which: EventFilter, column: GroupColumn) -> Mapping[str, int]:
        """Count events per value of a column, most first; `-` stands for none."""
        ...

    async def close(self) -> None:
        """Let go of the store; calling it again is a no-op."""
        ...


class StoreUnavailableError(RetriableError):
    """Raised when the store is locked, full or away; nothing was stored."""


class StoreDamagedError(PermanentError):
    """Raised when the store's file is corrupt, no database, or of another program or version."""


class StaleOffsetsError(ClosedError):
    """Raised when the stored offset is not where this writer left it."""

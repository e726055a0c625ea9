"""
The values that pass between the engine and a transport.

They are msgspec structs rather than dataclasses because one is made per event on the hot path: a
struct costs a tenth of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from spile.spi import ContextValue, SpileError

WireHeaders: TypeAlias = list[tuple[str, bytes]]
"""Headers as Kafka carries them: in order, repeats allowed."""


class OutgoingRecord(msgspec.Struct, frozen=True, gc=False):
    """
    One record on its way to the log; the transport stamps it with the time of sending.

    Attributes:
        topic: Full name.
        key: Decides the partition when none is given.
        value: None is a tombstone.
        headers: Sent byte for byte.
        partition: Overrides the key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: WireHeaders
    partition: int | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it stands in the log; satisfies `ProtocolRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class OutgoingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    One event to publish; see `ProtocolEventPublisher.publish` for what the members mean.

    Attributes:
        event_id: UUID; made when None. Give it when the same event may be published again.
        timestamp: When it happened, aware; now when None.
    """

    event_type: str
    payload: Any
    correlation_id: str | None = None
    causation_id: str | None = None
    metadata: dict[str, ContextValue] | None = None
    topic: str | None = None
    partition_key: str | None = None
    event_id: str | None = None
    timestamp: datetime | None = None


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where an acknowledged record stands."""

    topic: str
    partition: int
    offset: int


class Receipt:
    """
    What became of the records of one `send`.

    Attributes:
        failures: By index, why a record is not acknowledged: a `PermanentError` was refused by the
            broker and is not in the log; a `RetriableError` may or may not be in the log. Empty
            when all are acknowledged.
    """

    __slots__ = ("_runs", "failures")

    def __init__(self) -> None:
        self.failures: dict[int, SpileError] = {}
        self._runs: list[tuple[list[int], str, int, int]] = []

    def acknowledge(self, indexes: list[int], topic: str, partition: int, base: int) -> None:
        """Note that the records at these indexes stand in the log from offset `base` on."""
        self._runs.append((indexes, topic, partition, base))

    def positions(self) -> Mapping[int, Position]:
        """Return where each acknowledged record stands, by index."""
        return {
            index: Position(topic, partition, base + step)
            for indexes, topic, partition, base in self._runs
            for step, index in enumerate(indexes)
        }

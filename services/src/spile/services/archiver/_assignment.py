"""What the archiver has in hand of one partition."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from spile.adapters.delivery import OutgoingRecord, plain_headers
from spile.services.archiver.objects import CuttingRule, PartitionCutter, SealedObject
from spile.spi import PartitionKey, ProtocolRecord
from spile.topics import TICK

_MOST_WAITING: Final = 2


class Assignment:
    """
    One assignment of one partition; the next assignment makes a new one.

    Attributes:
        key: Which one.
        cutter: Makes its objects.
        next: Offset to read next; None before the first record of a partition without an archive.
        done: Offset up to which all is archived.
        waiting: Objects that are not archived yet, in order; the first one is being uploaded.
        current: Whether this is still the assignment that counts.
        failures: Uploads in a row that failed.
        trouble: Why the last one did.
        paused: Whether nothing more is read.
        dry: Whether it got nothing although it alone was not paused.
        made_at: When it was assigned; monotonic seconds, as the next two.
        came_at: When its last record came.
        ticked_at: When the open object was sent a tick.
        told: Whether the group was told where the archive stands.
    """

    __slots__ = (
        "came_at",
        "current",
        "cutter",
        "done",
        "dry",
        "failures",
        "key",
        "made_at",
        "next",
        "paused",
        "ticked_at",
        "told",
        "trouble",
        "waiting",
    )

    def __init__(
        self, key: PartitionKey, rule: CuttingRule, position: int | None, now: float
    ) -> None:
        self.key = key
        self.cutter = PartitionCutter(rule, *key, position=position)
        self.next = self.done = position
        self.waiting: deque[SealedObject] = deque()
        self.current = True
        self.failures = 0
        self.trouble: str | None = None
        self.paused = False
        self.dry = False
        self.made_at = self.came_at = now
        self.ticked_at = -math.inf
        self.told = position is None

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""
        return self.cutter.held_bytes + sum(len(sealed.data) for sealed in self.waiting)

    @property
    def blocked(self) -> bool:
        """Whether it has to wait for the archive before it may read on."""
        return len(self.waiting) >= (1 if self.failures else _MOST_WAITING)

    def cut(self, records: Iterable[ProtocolRecord]) -> list[SealedObject]:
        """Take records; return the objects that they complete."""
        sealed: list[SealedObject] = []
        for record in records:
            if self.next is not None and record.offset < self.next:
                continue  # delivered again
            if self.done is None:
                self.done = record.offset
            self.next = record.offset + 1
            sealed += self.cutter.add(record)
        return sealed


def tick(partition: PartitionKey, now: float) -> OutgoingRecord:
    """Return a record that lets time pass in a partition."""
    headers = plain_headers(
        source="archiver", event_type=TICK, now=datetime.fromtimestamp(now, UTC)
    )
    # With a key and no value, so that compacted topics take it and forget it.
    return OutgoingRecord(partition[0], TICK.encode(), None, headers, partition[1])

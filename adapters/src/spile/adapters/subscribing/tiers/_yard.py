"""A partition with the partitions of its retry topics, under one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from spile.adapters.dead_letters._facts import inbound_headers
from spile.adapters.dead_letters._retry_facts import RetryFacts, retry_headers
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.retrying import Entry, Lot, Window
from spile.adapters.subscribing._holding import Committer, Holding
from spile.adapters.subscribing._retries import Parking
from spile.spi import ProtocolRecord

log = structlog.get_logger(__name__)


class Yard:
    """
    One partition that is read, its retry partitions, and what is parked there.

    Everything that is done is committed here, main and retry partitions in one request: a commit
    that covers a later event of a key then always covers its retries too.

    Args:
        holding: The partition.
        tiers: The partition of that number of each retry topic.
        lot: What is parked.
        main: Offsets of the partition that are taken and done.
        committer: Hears which offsets are done.
        parking: The retry topics.
        delays_s: Their delays.
        on_progress: Called when records left the lot.
        stirred: Set when there may be something to do.
    """

    def __init__(
        self,
        holding: Holding,
        tiers: Sequence[Holding],
        lot: Lot,
        *,
        committer: Committer,
        parking: Parking,
        delays_s: Sequence[float],
        on_progress: Callable[[Yard], None],
        stirred: asyncio.Event,
    ) -> None:
        self.holding = holding
        self.tiers = tiers
        self.lot = lot
        self.main = Window(-1)
        self.stirred = stirred
        for tier, held in enumerate(tiers):
            held.window = lot.windows[tier]
        self._on_progress = on_progress
        self._committer = committer
        self._parking = parking
        self._delays_s = delays_s
        self._retry_topics = parking.topics.of(holding.partition[0])

    def stir(self) -> None:
        """Let whoever waits look whether there is something to do."""
        self.stirred.set()

    def note_progress(self, tier: int) -> None:
        """Let what is done in a retry partition be committed."""
        self._committer.done(self.tiers[tier], self.lot.windows[tier].position)

    def done(self, offset: int) -> bool:
        """Note that an offset of the partition is done; False when others own it."""
        self.main.close(offset)
        return self._committer.done(self.holding, self.main.position)

    def done_below(self, offset: int) -> bool:
        """Note that everything below an offset is done; False when others own the partition."""
        return self._committer.done(self.holding, offset)

    def settled(self, entry: Entry) -> bool:
        """Note that a parked record is done or dead; False when others own the partition."""
        if self.holding.gone:
            return False
        self.lot.settle(entry)
        self.note_progress(entry.tier)
        self._on_progress(self)
        self.stir()
        return True

    def moved(self, entry: Entry) -> None:
        """Note that a parked record stands in the next tier."""
        if self.holding.gone:
            return
        self.lot.release(entry)
        self.note_progress(entry.tier)
        self._on_progress(self)

    def waits_in_place(
        self, entry: Entry, tier: int, error: Exception, attempts: int, first_failure: datetime
    ) -> bool:
        """
        Let a parked record that failed wait where it stands, if that must be.

        Such is a follower whose tier is so full that its copy would not be read.

        Args:
            entry: The record.
            tier: Where it would go.
            error: What it failed with.
            attempts: How often it was tried by now.
            first_failure: When it failed first.
        """
        if tier != entry.tier or self.lot.comes_back(tier):
            return False
        self.lot.wait(entry, error, attempts, first_failure)
        return True

    def next_tier(self, entry: Entry) -> int | None:
        """Return where a parked record goes that failed; None when only the queue is left."""
        if entry.is_alone:
            return None
        tier = 0 if entry.facts.role == "follower" else entry.tier + 1
        return tier if tier < len(self._retry_topics) else None

    def head(
        self,
        record: ProtocolRecord,
        tier: int,
        error: Exception,
        attempts: int,
        first_failure: datetime,
    ) -> OutgoingRecord:
        """Return what to write for a record that failed, and tell where it waits for how long."""
        now = self._parking.wall_clock()
        facts = RetryFacts(
            role="head",
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            attempts=attempts,
            due=int((now + self._delays_s[tier]) * 1000),
            first_failure=first_failure,
            error_type=type(error).__name__,
            writer=self.lot.token,
        )
        log.info(
            "event waits for another attempt",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            retry_topic=self._retry_topics[tier],
            seconds=self._delays_s[tier],
        )
        return self._outgoing(record, tier, facts)

    def follower(self, record: ProtocolRecord) -> OutgoingRecord:
        """Return what to write for a record whose key is parked."""
        now = self._parking.wall_clock()
        facts = RetryFacts(
            role="follower",
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            attempts=0,
            due=int(now * 1000),
            first_failure=datetime.fromtimestamp(now, UTC),
            writer=self.lot.token,
        )
        return self._outgoing(record, 0, facts)

    def _outgoing(self, record: ProtocolRecord, tier: int, facts: RetryFacts) -> OutgoingRecord:
        return OutgoingRecord(
            self._retry_topics[tier],
            record.key,
            record.value,
            inbound_headers(record) + retry_headers(facts),
            record.partition,
        )

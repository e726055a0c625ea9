"""One audit from end to end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spile.adapters.dead_letters import DLQ_SUFFIX, done_topic
from spile.adapters.delivery import LogReader, LogReaderFactory
from spile.adapters.wire import Opener
from spile.services.auditing._bus import read_topic
from spile.services.auditing._comparing import TopicAudit
from spile.services.auditing._letters import read_letters
from spile.services.auditing._minutes import milliseconds
from spile.services.auditing._reports import SLACK, Published, read_reports
from spile.services.auditing._store import StoreTier
from spile.services.auditing._values import (
    ArchivedPartition,
    AuditReport,
    Difference,
    MinuteCounts,
    StoreCounts,
    Window,
)
from spile.services.auditing._walking import Span, spans
from spile.spi import PartitionKey

Archived: TypeAlias = Mapping[PartitionKey, ArchivedPartition]
"""What the archive holds, by partition; it has not begun with those that are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditor:
    """
    Compares publishers, bus, store, dead letters and archive, topic by topic.

    Tiers are read against the way of the events, the bus last: what one tier has, the one before it
    must have had earlier, so that events under way are never taken for lost. One topic at a time is
    held in memory, 28 bytes a record.

    Args:
        readers: Makes the reader of the log.
        reports: Full name of the topic of the publishers' reports.
        store: The event store; not compared when None.
        archive: Lists the archive from a record time on; not compared when None.
        opener: Reads reports of other content types than JSON and MessagePack.
        group: Whose dead letters account for events that are not stored.
    """

    readers: LogReaderFactory
    reports: str
    store: StoreTier | None = None
    archive: Callable[[int], Awaitable[Archived]] | None = None
    opener: Opener | None = None
    group: str = "persistence"

    async def run(
        self, topics: Sequence[str], window: Window, *, all_reported: bool = True
    ) -> AuditReport:
        """
        Compare topics in a window of time.

        Args:
            topics: Full names of topics that are on the cluster.
            window: Which minutes.
            all_reported: Compare the other topics too that publishers report; such a topic is not
                on the cluster any more.

        Raises:
            RetriableError: Broker, store, archive or schema registry are away.
            RejectedError: Records were deleted while they were read; run it again.
        """
        reader = self.readers()
        try:
            return await self._run(reader, topics, window, all_reported=all_reported)
        finally:
            await reader.close()

    async def _run(
        self, reader: LogReader, topics: Sequence[str], window: Window, *, all_reported: bool
    ) -> AuditReport:
        published = await read_reports(reader, self.reports, window, self.opener)
        since_ms = milliseconds(window.since - SLACK)
        counts = None if self.store is None else await self.store.counts(window)
        archived = None if self.archive is None else await self.archive(since_ms)
        notes = list(published.notes)
        if counts is None:
            notes.append("store: not compared, there is none in the default place (SPILE_STORE)")
        if archived is None:
            notes.append(
                "archive: not compared, there is none in the default place (SPILE_ARCHIVE)"
            )
        lines: list[MinuteCounts] = []
        differences: list[Difference] = []
        gone = {topic for topic, _, _ in published.said if all_reported} - set(topics)
        compared = sorted({*topics, *gone})
        queues = [name + DLQ_SUFFIX for name in topics]
        places = await spans(reader, [*topics, *queues, *map(done_topic, queues)], since_ms)
        for topic in compared:
            audit = await self._topic(reader, topic, window, published, counts, archived, places)
            lines += (line for _, line in sorted(audit.lines.items()))
            differences += sorted(audit.differences, key=lambda found: (found.minute, found.tier))
        return AuditReport(
            window=window,
            topics=compared,
            counts=lines,
            differences=differences,
            notes=notes,
        )

    async def _topic(
        self,
        reader: LogReader,
        topic: str,
        window: Window,
        published: Published,
        counts: StoreCounts | None,
        archived: Archived | None,
        places: Mapping[str, Span],
    ) -> TopicAudit:
        queue = topic + DLQ_SUFFIX
        there, dead = places.get(topic, Span()), places.get(queue, Span())
        marks = places.get(done_topic(queue), Span())
        bus = await read_topic(reader, topic, there, window, published.services)
        letters = await read_letters(reader, dead, marks, window, group=self.group)
        audit = TopicAudit(window=window, bus=bus, letters=letters, published=published)
        audit.compare_publish()
        if self.store is not None and counts is not None:
            await audit.compare_store(counts, self.store)
        if archived is not None:
            audit.compare_archive(
                {number: these for (name, number), these in archived.items() if name == topic}
            )
        return audit

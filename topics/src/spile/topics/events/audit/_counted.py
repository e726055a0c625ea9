"""The report of a publisher: what it published, by topic and minute."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spile.topics._strict import MAX_INTEGER, Count, Name, Strict
from spile.topics._wire import Id, Instant


class AuditRow(Strict, frozen=True):
    """
    What became of the events of one topic and one minute since the report before.

    Attributes:
        topic: Full name.
        minute: Beginning of the minute in which the events happened, by their envelopes.
        acknowledged: They are on the bus.
        indefinite: They may be on the bus.
        dead_lettered: The broker refused them; they are in the topic's dead letter queue.
    """

    topic: Name
    minute: Instant
    acknowledged: Count = 0
    indefinite: Count = 0
    dead_lettered: Count = 0


class AuditCounted(Strict, frozen=True):
    """
    A publisher says what it has published since its report before.

    The counts of all reports of a source, each sequence once, add up to all that it published until
    the last of them. A report that is written again keeps its sequence.

    Attributes:
        source_id: The publisher; a new one for each that is made.
        service: Name of the publishing service.
        instance: Tells replicas apart.
        sequence: Number of the report, from 1 and without gaps.
        counted_until: When these counts were taken.
        final: It is the last report; the publisher was closed and nothing was under way.
        uncounted: Events since the report before that have no row, because there were too many.
    """

    source_id: Id
    service: Name
    instance: str
    sequence: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    counted_until: Instant
    final: bool = False
    uncounted: Count = 0
    rows: list[AuditRow] = Field(default_factory=list[AuditRow])

"""What an audit is about, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from spile.services.auditing._minutes import minute_of
from spile.spi import PartitionKey

Tier: TypeAlias = Literal["publish", "bus", "store", "dlq", "archive"]
"""Where events are counted; the order is that of their way."""

State: TypeAlias = Literal["missing", "not yet", "unknown"]
"""Missing is a difference; not yet may come still; unknown cannot be compared any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    Which minutes are compared.

    Attributes:
        since: Begin of the first minute, aware; rounded down to the minute.
        until: End of the last one, aware; left out.
        grace: How long events of a minute may take to reach every tier, 10 minutes by default.
        now: The present.
    """

    since: datetime
    until: datetime
    grace: timedelta = timedelta(minutes=10)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def holds(self, minute: str) -> bool:
        """Say whether a minute is compared."""
        return minute_of(self.since) <= minute < minute_of(self.until)

    def is_settled(self, minute: str) -> bool:
        """Say whether the grace of a minute has passed; of one that no calendar has it has."""
        try:
            begin = datetime.fromisoformat(minute)
        except ValueError:  # a foreign producer's 31 November
            return True
        return begin + timedelta(minutes=1) + self.grace <= self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    Events of one topic and minute that one tier does not have.

    Attributes:
        topic: Full name.
        minute: Such as `2026-01-02T03:04Z`.
        tier: Where they are not.
        state: Whether that is a loss.
        missing: How many.
        meaning: In words.
        examples: Places of some, `<partition>:<offset>`.
    """

    topic: str
    minute: str
    tier: Tier
    state: State
    missing: int
    meaning: str
    examples: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class MinuteCounts:
    """
    One topic and minute in every tier; None where a tier was not looked at.

    Attributes:
        topic: Full name.
        minute: Such as `2026-01-02T03:04Z`.
        publish: Events that publishers were told are written, repeats included.
        at_least: Whether a publisher ended without its last word, so that there may be more.
        indefinite: Events of which publishers do not know whether they are written.
        refused: Events that the broker refused, as publishers say.
        records: Records on the bus, repeats included.
        bus: Different events on the bus.
        store: Events in the store.
        dlq: Different records of the store's worker in the dead letter queue, settled ones too.
        archive: Records in the archive, repeats included.
        behind: Tiers that have not come as far as these records yet, and how many they have to do.
    """

    topic: str
    minute: str
    publish: int = 0
    at_least: bool = False
    indefinite: int = 0
    refused: int = 0
    records: int = 0
    bus: int = 0
    store: int | None = None
    dlq: int = 0
    archive: int | None = None
    behind: dict[Tier, int] = field(default_factory=dict["Tier", int])


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRange:
    """
    One object of the archive, by its manifest.

    Attributes:
        first_offset: Of its first record.
        next_position: Where the next object begins.
        minutes: Records by minute of event.
        is_there: Whether the object itself is in the archive.
    """

    first_offset: int
    next_position: int
    minutes: Mapping[str, int]
    is_there: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedPartition:
    """
    What the archive holds of one partition.

    Attributes:
        ranges: In order of their offsets.
        is_whole: Whether there is nothing before the first of them; else what stands there is of
            no interest.
    """

    ranges: Sequence[ArchivedRange] = ()
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounts:
    """
    A store at one moment.

    Attributes:
        events: Events by topic and minute.
        next: Offset that it stores next, by partition.
    """

    events: Mapping[tuple[str, str], int]
    next: Mapping[PartitionKey, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """
    What an audit found.

    Attributes:
        window: Which minutes were compared.
        topics: Which topics.
        counts: By topic and minute, in that order.
        differences: What some tier does not have.
        notes: What was not compared, and why; sentences.
    """

    window: Window
    topics: Sequence[str]
    counts: Sequence[MinuteCounts]
    differences: Sequence[Difference]
    notes: Sequence[str]

    @property
    def missing(self) -> Sequence[Difference]:
        """Those differences that are a loss."""
        return [found for found in self.differences if found.state == "missing"]

    @property
    def unknown(self) -> Sequence[Difference]:
        """Those that may be a loss: what would tell is gone."""
        return [found for found in self.differences if found.state == "unknown"]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "since": self.window.since.isoformat(),
            "until": self.window.until.isoformat(),
            "grace_s": self.window.grace.total_seconds(),
            "complete": not self.missing and not self.unknown,
            "topics": list(self.topics),
            "differences": [asdict(found) for found in self.differences],
            "counts": [asdict(line) for line in self.counts],
            "notes": list(self.notes),
        }

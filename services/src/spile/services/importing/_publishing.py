"""Publish what files hold, and count it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from spile.services.importing._reading import read_events
from spile.services.importing._records import ImportedEvent, Malformed, Observation, Record
from spile.spi import (
    InvalidEventError,
    MessageTooLargeError,
    SpileError,
    UnknownTopicError,
)

Publish: TypeAlias = Callable[[Sequence[ImportedEvent]], Awaitable[Sequence[bool]]]
"""Sends events in their order; says for each whether it was acknowledged."""

BATCH = 500
_DETAILS_KEPT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFigures:
    """What one tool did; durations in milliseconds, None where no call states one."""

    tool_name: str
    count: int
    errors: int
    mean_ms: float | None
    p95_ms: float | None


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """
    What an import found and did.

    Attributes:
        formats: format per file, None where none was recognised.
        malformed: the first 1,000 unreadable lines; `malformed_count` counts all.
        skipped: entries that hold no event, by kind; `duplicate` are events seen before in this
            import, under the same id.
        published: acknowledged events; 0 in a dry run.
        failed: events that were not acknowledged, or not sent after `stopped`.
        failures: reasons of the first 1,000 refused events, each with file and line.
        stopped: why publishing ended early, else None; importing again continues it.
    """

    formats: dict[Path, str | None] = field(default_factory=dict[Path, "str | None"])
    events: Counter[str] = field(default_factory=Counter[str])
    sessions: set[str] = field(default_factory=set[str])
    malformed: list[Malformed] = field(default_factory=list[Malformed])
    malformed_count: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    published: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list[str])
    stopped: str | None = None
    _refused_types: dict[str, str] = field(default_factory=dict[str, str])
    _seen: set[bytes] = field(default_factory=set[bytes])
    _observations: dict[str, list[Observation]] = field(
        default_factory=dict[str, "list[Observation]"]
    )

    def add(self, record: Record) -> ImportedEvent | None:
        """Count a record; give it back when it is an event that is new to this import."""
        self.formats.setdefault(record.file, None)
        if isinstance(record, Malformed):
            self.malformed_count += 1
            if len(self.malformed) < _DETAILS_KEPT:
                self.malformed.append(record)
            return None
        if not isinstance(record, ImportedEvent):
            self.formats[record.file] = self.formats[record.file] or "claude-code"
            self.skipped[record.kind] += 1
            return None
        self.formats[record.file] = record.format
        identity = UUID(record.event_id).bytes
        if identity in self._seen:
            self.skipped["duplicate"] += 1
            return None
        self._seen.add(identity)
        self.sessions.add(record.correlation_id)
        self.events[record.event_type] += 1
        if (seen := record.observation) is not None:
            self._observations.setdefault(seen.tool_name, []).append(seen)
        return record

    def hold_back(self, events: Sequence[ImportedEvent]) -> Sequence[ImportedEvent]:
        """Count as failed what cannot be published any more; give the others."""
        if self.stopped is not None:
            self.failed += len(events)
            return []
        if not self._refused_types:
            return events
        for event in events:
            if (reason := self._refused_types.get(event.event_type)) is not None:
                self.fail(event, reason)
        return [event for event in events if event.event_type not in self._refused_types]

    def refuse(self, event: ImportedEvent, error: SpileError) -> None:
        """Count a refused event; a type that has no topic is not tried again."""
        if isinstance(error, UnknownTopicError):
            self._refused_types[event.event_type] = str(error)
        self.fail(event, str(error))

    def fail(self, event: ImportedEvent, reason: str) -> None:
        """Count an event that was not published."""
        self.failed += 1
        if len(self.failures) < _DETAILS_KEPT:
            self.failures.append(
                f"{event.file}:{event.line}: {event.event_type} {event.event_id}: {reason}"
            )

    @property
    def tools(self) -> list[ToolFigures]:
        """The tools, the most used first."""
        figures = [_figures(name, seen) for name, seen in self._observations.items()]
        return sorted(figures, key=lambda tool: (-tool.count, tool.tool_name))

    def as_json(self) -> dict[str, Any]:
        """Give the report as a JSON object, the same content as the table for people."""
        return {
            "files": [{"file": str(file), "format": kind} for file, kind in self.formats.items()],
            "sessions": len(self.sessions),
            "events": dict(self.events.most_common()),
            "events_total": self.events.total(),
            "tools": [
                {
                    "tool": tool.tool_name,
                    "count": tool.count,
                    "errors": tool.errors,
                    "mean_ms": tool.mean_ms,
                    "p95_ms": tool.p95_ms,
                }
                for tool in self.tools
            ],
            "malformed_total": self.malformed_count,
            "malformed": [
                {"file": str(bad.file), "line": bad.line, "reason": bad.reason}
                for bad in self.malformed
            ],
            "skipped": dict(self.skipped.most_common()),
            "published": self.published,
            "failed": self.failed,
            "failures": self.failures,
            "stopped": self.stopped,
        }


async def import_files(
    files: Iterable[Path],
    publish: Publish | None,
    *,
    batch: int = BATCH,
    on_bytes: Callable[[Path, int], None] | None = None,
) -> ImportReport:
    """
    Read files and publish their events, in order, `batch` at a time.

    Importing again, after a success or a failure, is safe: the ids are the same. A refusal of one
    event does not stop the others, and of a type that has no topic only the first is tried; any
    other error of the bus ends publishing, and what follows counts as failed.

    Args:
        files: recordings in any of the known formats, mixed as they come.
        publish: where events go; None only reads and counts.
        batch: events for one call of `publish`.
        on_bytes: told the file and how much of it has been read.
    """
    report = ImportReport()
    waiting: list[ImportedEvent] = []
    for path in files:
        report.formats.setdefault(path, None)

        def read(count: int, path: Path = path) -> None:
            if on_bytes is not None:
                on_bytes(path, count)

        for record in read_events(path, on_bytes=read):
            event = report.add(record)
            if event is None or publish is None:
                continue
            waiting.append(event)
            if len(waiting) >= batch:
                await _publish(publish, waiting, report)
                waiting.clear()
    if publish is not None and waiting:
        await _publish(publish, waiting, report)
    return report


async def _publish(publish: Publish, events: Sequence[ImportedEvent], report: ImportReport) -> None:
    events = report.hold_back(events)
    if not events:
        return
    try:
        outcomes = await publish(events)
    except (InvalidEventError, MessageTooLargeError, UnknownTopicError) as exc:
        if len(events) == 1:
            report.refuse(events[0], exc)
            return
        # One of them is refused and none was sent: halving finds it in a few steps, in order.
        middle = len(events) // 2
        await _publish(publish, events[:middle], report)
        await _publish(publish, events[middle:], report)
    except SpileError as exc:
        report.stopped = str(exc)
        report.failed += len(events)
    else:
        for event, sent in zip(events, outcomes, strict=True):
            if sent:
                report.published += 1
            else:
                report.fail(event, "not acknowledged")


def _figures(name: str, seen: Sequence[Observation]) -> ToolFigures:
    durations = sorted(one.duration_ms for one in seen if one.duration_ms is not None)
    rank = ceil(0.95 * len(durations)) - 1
    return ToolFigures(
        tool_name=name,
        count=len(seen),
        errors=sum(not one.success for one in seen),
        mean_ms=round(sum(durations) / len(durations), 3) if durations else None,
        p95_ms=round(durations[rank], 3) if durations else None,
    )

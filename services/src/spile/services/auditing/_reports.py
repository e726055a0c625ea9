"""What publishers say that they published."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from spile.adapters.delivery import LogReader
from spile.adapters.wire import Opener
from spile.services.auditing._minutes import milliseconds, minute_of
from spile.services.auditing._values import Window
from spile.services.auditing._walking import spans, walk
from spile.spi import ProtocolRecord, SchemaError
from spile.topics import decode_envelope
from spile.topics.events import AuditCounted

SLACK: Final = timedelta(minutes=10)
"""How much later than an event's time its record may be stamped earlier: clocks differ."""

_SILENT: Final = timedelta(seconds=60)
_SHOWN: Final = 3


@dataclass(slots=True)
class Said:
    """
    What the instances of one service say of one topic and minute.

    Attributes:
        acknowledged: Events that are on the bus.
        indefinite: Events that may be.
        refused: Events that are in the dead letter queue instead.
        at_least: Whether an instance ended without its last word.
    """

    acknowledged: int = 0
    indefinite: int = 0
    refused: int = 0
    at_least: bool = False


@dataclass(slots=True)
class Published:
    """
    What all publishers say.

    Attributes:
        said: By topic, minute and service.
        services: All that reported.
        notes: What is not certain.
    """

    said: dict[tuple[str, str, str], Said] = field(default_factory=dict[tuple[str, str, str], Said])
    services: set[str] = field(default_factory=set[str])
    notes: list[str] = field(default_factory=list[str])


async def read_reports(
    reader: LogReader, topic: str, window: Window, opener: Opener | None = None
) -> Published:
    """
    Read what publishers reported of a window.

    Args:
        reader: Of the log.
        topic: Full name of the topic of reports.
        window: Which minutes matter.
        opener: Reads other content types than JSON and MessagePack.

    Raises:
        RetriableError: The broker, or the schema registry, is away.
    """
    opener = opener or Opener()
    span = (await spans(reader, [topic], milliseconds(window.since - SLACK))).get(topic)
    if span is None:
        return Published(
            notes=[f"publish: not compared, there is no topic {topic} (`spile topics apply`)"]
        )
    sources: dict[str, _Source] = {}
    unreadable = 0
    async for records in walk(reader, span):
        await opener.prepare(records)
        for record in records:
            report = _report(record, opener)
            if report is None:
                unreadable += 1
            else:
                sources.setdefault(str(report.source_id), _Source()).add(report)
    published = _added_up(sources, window)
    if unreadable:
        published.notes.append(f"publish: {unreadable} records of {topic} are no reports")
    return published


class _Source:
    """The reports of one publisher, each sequence once."""

    def __init__(self) -> None:
        self.reports: dict[int, AuditCounted] = {}

    def add(self, report: AuditCounted) -> None:
        self.reports.setdefault(report.sequence, report)

    @property
    def last(self) -> AuditCounted:
        return self.reports[max(self.reports)]

    def is_cut_off(self, now: datetime) -> bool:
        """Say whether it fell silent among news; without any it ends with an empty report."""
        last = self.last
        is_quiet = not last.rows and not last.uncounted
        return not (last.final or is_quiet) and now - last.counted_until > _SILENT

    def is_whole(self) -> bool:
        """Say whether no report between the first and the last one is lacking."""
        return max(self.reports) - min(self.reports) + 1 == len(self.reports)


def _added_up(sources: dict[str, _Source], window: Window) -> Published:
    published = Published()
    silent: list[str] = []
    for source in sources.values():
        last = source.last
        published.services.add(last.service)
        open_ended: set[tuple[str, str]] = set()
        if source.is_cut_off(window.now) or not source.is_whole():
            silent.append(f"{last.service}/{last.instance}")
            spoken = [report for report in source.reports.values() if report.rows]
            open_ended = {(r.topic, minute_of(r.minute)) for s in spoken[-1:] for r in s.rows}
        for report in source.reports.values():
            for row in report.rows:
                place = (row.topic, minute_of(row.minute))
                if not window.holds(place[1]):
                    continue
                said = published.said.setdefault((*place, report.service), Said())
                said.acknowledged += row.acknowledged
                said.indefinite += row.indefinite
                said.refused += row.dead_lettered
                said.at_least |= place in open_ended
            if report.uncounted:
                published.notes.append(
                    f"publish: {report.uncounted} events of {report.service}/{report.instance} "
                    "are of too many minutes to be counted by minute"
                )
    if silent:
        shown = ", ".join(sorted(silent)[:_SHOWN]) + (" ..." if len(silent) > _SHOWN else "")
        published.notes.append(
            f"publish: {len(silent)} publishers said no last word ({shown}): they may have "
            "published more after their last report"
        )
    return published


def _report(record: ProtocolRecord, opener: Opener) -> AuditCounted | None:
    if record.value is None:
        return None
    headers = dict(record.headers)
    try:
        value = opener.open(headers.get("content_type", b""), record.value)
        return AuditCounted.model_validate_json(bytes(decode_envelope(value).payload))
    except (SchemaError, ValidationError):
        return None

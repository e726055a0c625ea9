"""One dead letter as it is shown and chosen."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from spile.adapters.dead_letters._facts import (
    DLQ_SUFFIX,
    OMITTED,
    Origin,
    header_text,
    inbound_headers,
    moment_of,
    number_of,
    origin_of,
    replay_count,
)
from spile.adapters.delivery._records import WireHeaders
from spile.spi import ProtocolRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """
    A record of a dead letter queue, and what its headers say; what they do not say is None.

    Attributes:
        record: As it stands in the queue.
        origin: Where it came from; the topic is that of the queue's name, never of a header.
        group: Consumer group that failed.
        attempts: How often it was tried in the last round.
        error_type: Class of the last error.
        error_message: What that said, secrets removed.
        error_digest: Equal for failures at one place.
        last_failure: When it failed last.
        replays: How often it was reprocessed.
    """

    record: ProtocolRecord
    origin: Origin
    group: str | None
    attempts: int | None
    error_type: str | None
    error_message: str | None
    error_digest: str | None
    last_failure: datetime | None
    replays: int

    @classmethod
    def of(cls, record: ProtocolRecord) -> DeadLetter:
        """Read a record of a dead letter queue; headers that make no sense count as missing."""
        topic = record.topic.removesuffix(DLQ_SUFFIX)
        return cls(
            record=record,
            origin=origin_of(record, topic=topic, earlier_round=True),
            group=header_text(record, "consumer-group"),
            attempts=number_of(header_text(record, "attempts")),
            error_type=header_text(record, "error-type"),
            error_message=header_text(record, "error-message"),
            error_digest=header_text(record, "error-digest"),
            last_failure=moment_of(header_text(record, "last-failure")),
            replays=replay_count(record),
        )

    @property
    def place(self) -> str:
        """Its id within the queue: `<partition>:<offset>`."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def failed_at(self) -> datetime:
        """When it failed last, as its headers say, else when it was written to the queue."""
        if self.last_failure is not None:
            return self.last_failure
        try:
            return _EPOCH + timedelta(milliseconds=self.record.timestamp)
        except OverflowError:
            return _LAST

    @property
    def headers(self) -> WireHeaders:
        """Its headers as they came, without those that say what went wrong."""
        return inbound_headers(self.record)

    @property
    def is_without_value(self) -> bool:
        """Whether its value was too large for a queue, so that only its size stands here."""
        return any(name == OMITTED for name, _ in self.record.headers)

    @property
    def event_type(self) -> str | None:
        """Type of the event, by its header."""
        return self._header("event_type")

    @property
    def correlation_id(self) -> str | None:
        """Correlation id, by its header."""
        return self._header("correlation_id")

    @property
    def content_type(self) -> str | None:
        """Media type of the value, by its header."""
        return self._header("content_type")

    def _header(self, name: str) -> str | None:
        values = [value for key, value in self.record.headers if key == name]
        return (values[-1] or b"").decode("utf-8", "replace") if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """
    Which letters are meant; what is None or empty does not filter.

    Attributes:
        places: Ids, `<partition>:<offset>`.
        error_type: Class of the error.
        group: Consumer group that failed.
        event_type: UPPER_SNAKE_CASE.
        correlation_id: UUID as text.
        key: Record key.
        since: Failed at this moment or later.
        until: Failed before this moment.
        text: Found in the value, a header, the key or the error's text.
    """

    places: Collection[str] = ()
    error_type: str | None = None
    group: str | None = None
    event_type: str | None = None
    correlation_id: str | None = None
    key: bytes | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: re.Pattern[str] | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant."""
        return (
            (not self.places or letter.place in self.places)
            and self.error_type in {None, letter.error_type}
            and self.group in {None, letter.group}
            and self.event_type in {None, letter.event_type}
            and self.correlation_id in {None, letter.correlation_id}
            and self.key in {None, letter.record.key}
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (self.text is None or self._has_text(letter, self.text))
        )

    @staticmethod
    def _has_text(letter: DeadLetter, pattern: re.Pattern[str]) -> bool:
        record = letter.record
        parts = [record.value, record.key, *(value for _, value in letter.headers)]
        return any(
            pattern.search(part.decode("utf-8", "replace")) for part in parts if part
        ) or bool(pattern.search(letter.error_message or ""))

"""
Event headers on the wire: UTF-8 text under the names that the contracts fix.

Writing joins ready-made tuples; reading decodes a field when it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from spile.adapters.delivery._records import WireHeaders
from spile.spi import Priority, ProtocolEventBusHeaders, UndecodableError

REQUIRED_HEADERS = (
    "content_type",
    "correlation_id",
    "message_id",
    "timestamp",
    "source",
    "event_type",
    "schema_version",
)
_OPTIONAL_TEXT = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "operation_name",
    "destination",
    "routing_key",
    "partition_key",
    "priority",
)
_OPTIONAL_NUMBER = ("retry_count", "max_retries", "ttl_seconds")
_PRIORITIES = ("low", "normal", "high", "critical")
_SEMVER_PARTS = 3
_SEMVER_DIGITS = 9


class SemVer(NamedTuple):
    """A semantic version; satisfies `ProtocolSemVer`."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> SemVer:
        """
        Read `major.minor.patch`.

        Raises:
            UndecodableError: The text is something else.
        """
        parts = text.split(".")
        if len(parts) != _SEMVER_PARTS or not all(
            p.isascii() and p.isdigit() and len(p) <= _SEMVER_DIGITS for p in parts
        ):
            raise UndecodableError(
                f"header schema_version is {text[:40]!r}, not a version such as '1.0.0'",
                field="schema_version",
            )
        return cls(*map(int, parts))


class EventHeaders:
    """
    Headers of one record, each decoded when it is first looked at; satisfies the contract.

    Args:
        wire: Headers as they came; the last one of a name counts.

    Raises:
        UndecodableError: At the first look at a required header that is missing or malformed.
    """

    def __init__(self, wire: Iterable[tuple[str, bytes]]) -> None:
        # A foreign producer may send a header without a value, which counts as empty.
        self._wire = {name: value or b"" for name, value in wire}

    def _text(self, name: str) -> str | None:
        raw = self._wire.get(name)
        if raw is None:
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError as exc:
            raise UndecodableError(f"header {name} is not UTF-8", field=name) from exc

    def _required(self, name: str) -> str:
        text = self._text(name)
        if not text:
            raise UndecodableError(f"required header {name} is missing or empty", field=name)
        return text

    def _uuid(self, name: str) -> UUID:
        text = self._required(name)
        try:
            return UUID(text)
        except ValueError as exc:
            raise UndecodableError(f"header {name} is no UUID", field=name) from exc

    def _number(self, name: str) -> int | None:
        text = self._text(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise UndecodableError(f"header {name} is no whole number", field=name)
        return int(text)

    @cached_property
    def content_type(self) -> str:
        """Media type of the value."""
        return self._required("content_type")

    @cached_property
    def correlation_id(self) -> UUID:
        """Shared by all events of one request, run or session."""
        return self._uuid("correlation_id")

    @cached_property
    def message_id(self) -> UUID:
        """Id of the event."""
        return self._uuid("message_id")

    @cached_property
    def timestamp(self) -> datetime:
        """When the event happened, UTC."""
        text = self._required("timestamp")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as exc:
            raise UndecodableError("header timestamp is not ISO 8601", field="timestamp") from exc
        if moment.utcoffset() != timedelta(0):
            raise UndecodableError("header timestamp is not in UTC", field="timestamp")
        return moment

    @cached_property
    def source(self) -> str:
        """Name of the publishing service."""
        return self._required("source")

    @cached_property
    def event_type(self) -> str:
        """UPPER_SNAKE_CASE type."""
        return self._required("event_type")

    @cached_property
    def schema_version(self) -> SemVer:
        """Version of the payload's schema."""
        return SemVer.parse(self._required("schema_version"))

    @property
    def trace_id(self) -> str | None:
        """W3C trace id."""
        return self._text("trace_id")

    @property
    def span_id(self) -> str | None:
        """W3C span id."""
        return self._text("span_id")

    @property
    def parent_span_id(self) -> str | None:
        """Span that caused this one."""
        return self._text("parent_span_id")

    @property
    def operation_name(self) -> str | None:
        """Name of the traced operation."""
        return self._text("operation_name")

    @property
    def priority(self) -> Priority | None:
        """Hint for handlers."""
        text = self._text("priority")
        if text is not None and text not in _PRIORITIES:
            raise UndecodableError(
                f"header priority must be one of {', '.join(_PRIORITIES)}", field="priority"
            )
        return text

    @property
    def destination(self) -> str | None:
        """Node group that the event is meant for."""
        return self._text("destination")

    @property
    def routing_key(self) -> str | None:
        """Key for routers behind the bus."""
        return self._text("routing_key")

    @property
    def partition_key(self) -> str | None:
        """What the record key was made from, when it was given."""
        return self._text("partition_key")

    @property
    def retry_count(self) -> int | None:
        """Attempts so far."""
        return self._number("retry_count")

    @property
    def max_retries(self) -> int | None:
        """Attempts allowed."""
        return self._number("max_retries")

    @property
    def ttl_seconds(self) -> int | None:
        """Seconds after which the event is of no use."""
        return self._number("ttl_seconds")


def decode_headers(wire: Iterable[tuple[str, bytes]]) -> EventHeaders:
    """Return headers that decode a field when it is looked at."""
    return EventHeaders(wire)


def check_required(headers: ProtocolEventBusHeaders) -> None:
    """
    Look at every required header once.

    Raises:
        UndecodableError: Names the first that is missing or malformed.
    """
    for name in REQUIRED_HEADERS:
        getattr(headers, name)


def utc_text(moment: datetime) -> str:
    """
    Return ISO 8601 with microseconds and `Z`.

    Raises:
        ValueError: The moment is naive; give an aware one.
    """
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError("timestamp has no time zone; give an aware datetime, in UTC")
    return (moment - offset).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def encode_headers(headers: ProtocolEventBusHeaders) -> WireHeaders:
    """
    Return the wire form: the seven required ones in a fixed order, then those that are set.

    A trace and span id also become W3C `traceparent`, so that OpenTelemetry tools join in
    (https://www.w3.org/TR/trace-context/).
    """
    wire: WireHeaders = [
        ("content_type", headers.content_type.encode()),
        ("correlation_id", str(headers.correlation_id).encode()),
        ("message_id", str(headers.message_id).encode()),
        ("timestamp", utc_text(headers.timestamp).encode()),
        ("source", headers.source.encode()),
        ("event_type", headers.event_type.encode()),
        ("schema_version", str(headers.schema_version).encode()),
    ]
    for name in (*_OPTIONAL_TEXT, *_OPTIONAL_NUMBER):
        value: Any = getattr(headers, name, None)
        if value is not None:
            wire.append((name, str(value).encode()))
    trace_id, span_id = headers.trace_id, headers.span_id
    if trace_id and span_id:
        wire.append(("traceparent", f"00-{trace_id}-{span_id}-01".encode()))
    return wire


def plain_headers(*, source: str, event_type: str, now: datetime) -> WireHeaders:
    """Return the required headers for bytes that came without any."""
    return [
        ("content_type", b"application/octet-stream"),
        ("correlation_id", str(uuid4()).encode()),
        ("message_id", str(uuid4()).encode()),
        ("timestamp", utc_text(now).encode()),
        ("source", source.encode()),
        ("event_type", event_type.encode()),
        ("schema_version", b"1.0.0"),
    ]

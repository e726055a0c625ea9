"""From an event to the record that carries it: checked, encoded once, complete headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel

from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import OutgoingEvent, OutgoingRecord, WireHeaders
from spile.adapters.publishing._redacting import EventRedaction, chosen_redactor, noted
from spile.adapters.wire import WireForm
from spile.spi import (
    ConfigurationError,
    ContextValue,
    InvalidEventError,
    MessageTooLargeError,
)
from spile.topics import (
    MAX_PAYLOAD_BYTES,
    MAX_RECORD_BYTES,
    Catalogue,
    Prepared,
    Route,
    encode_envelope,
    parse_uuid,
    stated_type,
    uuid7_text,
)
from spile.topics.redaction import Redactor, quotable

_CONTENT_TYPE = ("content_type", b"application/json")
_METADATA_HEADERS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "operation_name",
    "destination",
    "routing_key",
    "priority",
    "retry_count",
    "max_retries",
    "ttl_seconds",
)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_NOTHING: list[str] = []

TIMESTAMP_HEADER = 3
"""Place of the header `timestamp` among those of an encoded record."""

_encode_json = msgspec.json.encode


@dataclass(slots=True, kw_only=True)
class _Lane:
    """What is the same for every event of one type on one topic."""

    route: Route
    event_type: tuple[str, bytes]
    schema_version: tuple[str, bytes]
    marks: tuple[str, ...]
    room: Callable[[bytes], bytes]


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """
    An event ready to be sent.

    Attributes:
        record: What goes to the log.
        event_id: Its id, for logs and for publishing it again.
        route: Where it goes.
    """

    record: OutgoingRecord
    event_id: str
    route: Route


class EventEncoder:
    """
    Turns events into records.

    Args:
        catalogue: Knows the topic and the contract of each type.
        environment: Environment of the topics.
        service: Name of the publishing service; source of every event.
        form: How values are encoded; JSON by default. Each route must be prepared for it.
        redactor: Takes out secrets before anything is encoded; True is one with the built-in
            rules, False writes events as they are.

    Raises:
        ConfigurationError: The name of the service is no Unicode.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        environment: str,
        service: str,
        form: WireForm | None = None,
        redactor: Redactor | bool = True,
    ) -> None:
        self._catalogue = catalogue
        chosen = chosen_redactor(redactor)
        self._redaction = None if chosen is None else EventRedaction(chosen)
        self._form = form
        self._content_type = _CONTENT_TYPE if form is None else ("content_type", form.content_type)
        self._environment = environment
        self._service = service
        if not _is_unicode(service):
            raise ConfigurationError(
                f"the service {service!r} holds half a surrogate pair, which UTF-8 cannot write",
                setting="service",
            )
        self._service_json = _encode_json(service)
        self._source = ("source", service.encode())
        self._lanes: dict[tuple[str, str | None, str | None], _Lane] = {}

    def route_of(self, event: OutgoingEvent) -> Route:
        """
        Return where an event goes.

        Raises:
            UnknownTopicError: No such type or topic in the catalogue.
        """
        return self._lane_of(event).route

    def suspects(self, unseen: Sequence[bytes]) -> bool:
        """Say whether a secret may stand in what `encode` left for a look."""
        return self._redaction is not None and self._redaction.suspects(unseen)

    def encode(  # noqa: C901 - a call per step would cost more than the step
        self, event: OutgoingEvent, now: str | None = None, unseen: list[bytes] | None = None
    ) -> Encoded:
        """
        Check one event and encode it.

        An event without a correlation id starts a new chain, which is named after it.

        Args:
            event: What to publish.
            now: The present moment as text, when the caller has it already.
            unseen: Gets what is to be looked at, for one look at many events; if `suspects` says
                so, they are to be encoded again, without this. By default the event is looked at
                at once.

        Raises:
            UnknownTopicError: No such type or topic in the catalogue.
            InvalidEventError: The event breaks its contract, or a text is no Unicode; the error
                names the field.
            RedactionError: It may hold a secret that cannot be removed.
            MessageTooLargeError: The payload is over 1,000,000 bytes, or the record over 1,600,000.
        """
        lane = self._lane_of(event)
        prepared = lane.route.contract.prepare(event.payload)
        prepared, redacted = self._inspected(lane, prepared, unseen)
        event_id = prepared.event_id or uuid7_text()
        if event.event_id is not None:
            event_id = _given_id(event, prepared)
        correlation_id, causation_id = _chain(event, prepared, event_id)
        timestamp = prepared.timestamp or now or utc_text(datetime.now(UTC))
        if event.timestamp is not None:
            timestamp = _given_time(event, event.timestamp)
        payload_json = prepared.payload_json
        if len(payload_json) > MAX_PAYLOAD_BYTES:
            raise _too_large("payload", len(payload_json), MAX_PAYLOAD_BYTES, lane)
        headers: WireHeaders = [
            self._content_type,
            ("correlation_id", correlation_id.encode()),
            ("message_id", event_id.encode()),
            ("timestamp", timestamp.encode()),
            self._source,
            lane.event_type,
            lane.schema_version,
        ]
        try:
            metadata = event.metadata
            if metadata is not None:
                metadata, more = self._metadata(metadata, lane.route.event_type)
                redacted = [*redacted, *more]
                _add_metadata_headers(headers, metadata)
            if prepared.trace_id is not None and (metadata is None or "trace_id" not in metadata):
                _add_trace(headers, prepared.trace_id, prepared.span_id)
            key = event.partition_key or prepared.key or correlation_id
            redaction = self._redaction
            # A correlation id is a UUID, in which no secret can stand, and often new.
            if (
                redaction is not None
                and key is not correlation_id
                and key not in redaction.clean_keys
            ):
                key, redacted = redaction.key(key, redacted)
            if event.partition_key:
                headers.append(("partition_key", key.encode()))
            if redacted:
                metadata = noted(metadata, redacted)
            value = encode_envelope(
                event_id=event_id,
                event_type=lane.route.event_type,
                correlation_id=correlation_id,
                causation_id=causation_id,
                timestamp=timestamp,
                service_json=self._service_json,
                payload_json=payload_json,
                version=lane.route.version,
                metadata=metadata,
            )
            if self._form is not None:
                value = self._form.write(lane.route, value)
            record = OutgoingRecord(lane.route.topic, key.encode(), value, headers)
        except UnicodeEncodeError:
            raise _no_unicode(event, lane) from None
        size = len(value) + len(key) + 512
        if size > MAX_RECORD_BYTES or metadata is not None:
            _check_record_size(record, lane)
        return Encoded(record, event_id, lane.route)

    def _inspected(
        self, lane: _Lane, prepared: Prepared, unseen: list[bytes] | None
    ) -> tuple[Prepared, list[str]]:
        """Return a payload without secrets and where they were, or leave it to be looked at."""
        redaction = self._redaction
        if redaction is None:
            return prepared, _NOTHING
        room = lane.room(prepared.payload_json)
        if unseen is not None and not lane.marks:
            unseen.append(room)
        elif lane.marks or redaction.may_hold_secret(room):
            return redaction.payload(lane.route.contract, lane.marks, prepared)
        return prepared, _NOTHING

    def _metadata(
        self, given: dict[str, Any], event_type: str
    ) -> tuple[dict[str, ContextValue], list[str]]:
        """Return metadata as they are written, and where in the envelope secrets were."""
        metadata = _checked_metadata(given, event_type)
        if self._redaction is None:
            return metadata, _NOTHING
        return self._redaction.metadata(metadata, event_type)

    def _lane_of(self, event: OutgoingEvent) -> _Lane:
        named = event.event_type
        stated = stated_type(event.payload) if "." in named and _can_state(event.payload) else None
        return self._lanes.get((named, event.topic, stated)) or self._lane(event, stated)

    def _lane(self, event: OutgoingEvent, stated: str | None) -> _Lane:
        route = self._catalogue.resolve(
            event.event_type,
            environment=self._environment,
            service=self._service,
            topic=event.topic,
            payload_type=stated,
        )
        lane = _Lane(
            route=route,
            event_type=("event_type", route.event_type.encode()),
            schema_version=("schema_version", route.contract.schema_version.encode()),
            marks=() if self._redaction is None else self._redaction.marks(route.contract),
            room=EventRedaction.room(route.contract),
        )
        self._lanes[event.event_type, event.topic, stated] = lane
        return lane


def _can_state(payload: object) -> bool:
    """Say whether a payload is of a kind that can name its own type."""
    return isinstance(payload, BaseModel | Mapping)


def _chain(event: OutgoingEvent, prepared: Prepared, event_id: str) -> tuple[str, str | None]:
    """Return the correlation id and the causation id; an event without the first starts a chain."""
    correlation_id = event.correlation_id
    if correlation_id is None:
        correlation_id = prepared.correlation_id or event_id
    else:
        correlation_id = parse_uuid(correlation_id, "correlation_id")
    causation_id = event.causation_id or prepared.causation_id
    if causation_id is not None:
        causation_id = parse_uuid(causation_id, "causation_id")
    return correlation_id, causation_id


def _given_id(event: OutgoingEvent, prepared: Prepared) -> str:
    """Return the id that the caller gave; it must be the payload's own where that has one."""
    event_id = parse_uuid(str(event.event_id), "event_id")
    if prepared.event_id is not None and prepared.event_id != event_id:
        raise InvalidEventError(
            f"{event.event_type}: event_id {event_id} differs from the payload's "
            f"{prepared.event_id}; one event has one id",
            event_type=event.event_type,
            field="event_id",
        )
    return event_id


def _given_time(event: OutgoingEvent, moment: datetime) -> str:
    try:
        return utc_text(moment)
    except ValueError as exc:
        raise InvalidEventError(
            f"timestamp of {event.event_type}: {exc}",
            event_type=event.event_type,
            field="timestamp",
        ) from exc


def _checked_metadata(metadata: dict[str, Any], event_type: str) -> dict[str, ContextValue]:
    """Refuse values that a metadata mapping may not hold."""
    try:
        return msgspec.convert(metadata, dict[str, ContextValue], strict=True)
    except (msgspec.ValidationError, TypeError) as exc:
        raise InvalidEventError(
            f"metadata of {event_type} must map names to text, numbers, booleans, lists of text or "
            f"mappings of text: {exc}",
            event_type=event_type,
            field="metadata",
        ) from exc


def _is_unicode(text: str) -> bool:
    """Say whether UTF-8 can write a text: not where half a surrogate pair stands in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_unicode(event: OutgoingEvent, lane: _Lane) -> InvalidEventError:
    """Name the field of an event that could not be written; only metadata and key can be wrong."""
    field = "partition_key"
    for name, value in (event.metadata or {}).items():
        try:
            _encode_json({name: value})
        except UnicodeEncodeError:
            field = f"metadata.{quotable(name)}"
            break
    return InvalidEventError(
        f"{field} of {lane.route.event_type} holds half a surrogate pair, which UTF-8 cannot "
        "write; give text that is Unicode",
        event_type=lane.route.event_type,
        field=field,
    )


def _add_metadata_headers(headers: WireHeaders, metadata: dict[str, ContextValue]) -> None:
    """Lift tracing and routing metadata into headers, where routers and tracers look."""
    for name in _METADATA_HEADERS:
        value = metadata.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            headers.append((name, str(value).encode()))
    trace_id, span_id = metadata.get("trace_id"), metadata.get("span_id")
    if isinstance(trace_id, str) and isinstance(span_id, str):
        _add_traceparent(headers, trace_id, span_id)


def _add_trace(headers: WireHeaders, trace_id: str, span_id: str | None) -> None:
    """Lend the headers the trace of a payload, where it is W3C's; other text stays where it is."""
    if not _TRACE_ID.fullmatch(trace_id):
        return
    headers.append(("trace_id", trace_id.encode()))
    if span_id is not None and _SPAN_ID.fullmatch(span_id):
        headers.append(("span_id", span_id.encode()))
        _add_traceparent(headers, trace_id, span_id)


def _add_traceparent(headers: WireHeaders, trace_id: str, span_id: str) -> None:
    """Add the form that OpenTelemetry tools read. Source: W3C Trace Context, "traceparent"."""
    if _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id):
        headers.append(("traceparent", f"00-{trace_id}-{span_id}-01".encode()))


def _check_record_size(record: OutgoingRecord, lane: _Lane) -> None:
    size = len(record.value or b"") + len(record.key or b"")
    size += sum(len(name) + len(value) for name, value in record.headers)
    if size > MAX_RECORD_BYTES:
        raise _too_large("record", size, MAX_RECORD_BYTES, lane)


def _too_large(what: str, size: int, limit: int, lane: _Lane) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"{what} of {lane.route.event_type} for {lane.route.topic} has {size:,} bytes after "
        f"encoding; the limit is {limit:,}: store the bulk elsewhere and publish a reference",
        size_bytes=size,
        limit_bytes=limit,
        event_type=lane.route.event_type,
    )

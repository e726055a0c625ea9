"""Our envelopes as CloudEvents, and CloudEvents as our envelopes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from spile.spi import InvalidEventError, MessageTooLargeError, UndecodableError
from spile.topics._ids import correlation_uuid
from spile.topics._wire import read_instant
from spile.topics.interop._cloudevent import JSON_TYPE, CloudEvent, is_text
from spile.topics.interop._cloudevent_data import data_of, form_of, is_utf8, payload_of
from spile.topics.payloads import Envelope, upper_snake
from spile.topics.payloads._codec import utc_text
from spile.topics.payloads._envelope import is_event_type

ORIGINAL: Final = "cloudevent"
"""Name in an envelope's metadata of the attributes of the foreign CloudEvent that it was."""

_TYPE_PREFIX: Final = "spile."
_SOURCE_PREFIX: Final = "/spile/"
_EXTRA: Final = "spileextra"
_FORM: Final = "data"  # no attribute may be called so, which keeps it apart from them
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_NOT_WORD: Final = re.compile(r"[^A-Za-z0-9]+")
_SCHEMA_VERSION: Final = b"1.0.0"
_NO_TRACE: Final = "0" * 32
_ANY: Final = re.compile(r".+", re.DOTALL)
_NUMBER: Final = re.compile(r"[0-9]+")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_CARRIED: Final = {
    "schema_version": re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}"),
    "trace_id": re.compile(r"[0-9a-f]{32}"),
    "span_id": _SPAN_ID,
    "parent_span_id": _SPAN_ID,
    "traceparent": _TRACEPARENT,
    "operation_name": _ANY,
    "destination": _ANY,
    "routing_key": _ANY,
    "priority": re.compile(r"low|normal|high|critical"),
    "retry_count": _NUMBER,
    "max_retries": _NUMBER,
    "ttl_seconds": _NUMBER,
}
"""Headers that are attributes, named without underscores; what one must be to be taken for ours."""


class _Extra(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an envelope has and no attribute can hold."""

    metadata: dict[str, Any] | None = None
    version: str | None = None
    key: bytes | None = None
    headers: dict[str, str] = {}
    binary: dict[str, bytes] = {}


_extra_decoder: Final = msgspec.json.Decoder(_Extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeRecord:
    """
    An envelope with what stands beside it in a record.

    Attributes:
        envelope: The event; `msgspec.json.encode` makes the record's value of it.
        headers: Of the record: the required ones first, `content_type` being `application/json`.
        key: Of the record.
    """

    envelope: Envelope
    headers: tuple[tuple[str, bytes], ...]
    key: bytes


def to_cloudevent(
    envelope: Envelope,
    headers: Iterable[tuple[str, bytes]] = (),
    *,
    key: bytes | None = None,
) -> CloudEvent:
    """
    Return an event of ours as a CloudEvent; `from_cloudevent` gives it back without loss.

    An envelope that `from_cloudevent` made of a foreign CloudEvent becomes that CloudEvent again,
    with the payload as it is now. Once ids, type, time or service were changed it is an event of
    ours.

    Args:
        envelope: The event.
        headers: Of its record; those that the envelope says already need not be there.
        key: Of its record.

    Raises:
        InvalidEventError: The metadata is no JSON.
    """
    original = _original(envelope)
    return _write(envelope, headers, key) if original is None else original


def from_cloudevent(event: CloudEvent, *, received: datetime | None = None) -> EnvelopeRecord:
    """
    Return a CloudEvent as an event of ours.

    What a foreign CloudEvent lacks follows from what it has: an id that is no UUID becomes a
    UUIDv5 of source and id, the type becomes UPPER_SNAKE_CASE, the correlation id is
    `correlationid`, else the trace of `traceparent`, else the event's own id. Data that is no JSON
    object stands under `data` (JSON values, text) or `data_base64`. The attributes as they were
    are kept in the metadata under `cloudevent`.

    Args:
        event: The CloudEvent.
        received: The event's time where it does not say; that of the record is a good choice.

    Raises:
        UndecodableError: The data is no JSON though its content type says so, is nested too deep,
            or the time is missing or no time; names the attribute.
        MessageTooLargeError: The payload has more than `MAX_PAYLOAD_BYTES`.
    """
    record = _read(event, received)
    same = _write(record.envelope, record.headers, _stated_key(event))
    return record if same == event else _kept(event, record)


def _original(envelope: Envelope) -> CloudEvent | None:
    """Return the foreign CloudEvent that an envelope was made of, when it still says the same."""
    kept = (envelope.metadata or {}).get(ORIGINAL)
    if not isinstance(kept, dict):
        return None
    attributes: dict[str, Any] = dict(cast("dict[str, Any]", kept))
    form = attributes.pop(_FORM, None)
    try:
        event = CloudEvent.of(attributes, data_of(form, envelope.payload_json))
        again = _kept(event, _read(event, envelope.timestamp)).envelope
    except (InvalidEventError, UndecodableError, MessageTooLargeError):
        return None
    same = msgspec.structs.asdict(again) | {"payload": again.payload_json}
    return event if same == _comparable(envelope) else None


def _comparable(envelope: Envelope) -> dict[str, Any]:
    return msgspec.structs.asdict(envelope) | {"payload": envelope.payload_json}


class _Metadata(msgspec.Struct):
    schema_version: str = ""


class _Versioned(msgspec.Struct):
    metadata: _Metadata | None = None


def _stated_version(envelope: Envelope) -> bytes:
    """Return the version that the payload states, for when no header does."""
    try:
        metadata = msgspec.json.decode(envelope.payload, type=_Versioned).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _SCHEMA_VERSION
    version = "" if metadata is None else metadata.schema_version
    fits = _CARRIED["schema_version"].fullmatch(version)
    return version.encode() if fits else _SCHEMA_VERSION


def _write(
    envelope: Envelope, headers: Iterable[tuple[str, bytes]], key: bytes | None
) -> CloudEvent:
    extensions = {"correlationid": str(envelope.correlation_id)}
    if envelope.causation_id is not None:
        extensions["causationid"] = str(envelope.causation_id)
    rest = {"schema_version": _stated_version(envelope)} | _not_implied(envelope, headers)
    for header, pattern in _CARRIED.items():
        text = _text(rest.get(header))
        if text is not None and pattern.fullmatch(text):
            extensions[_attribute(header)] = text
            del rest[header]
    fits = is_text(envelope.version)
    if fits:
        extensions["topicversion"] = envelope.version
    partition_key = _text(key)
    if partition_key is not None:
        extensions["partitionkey"] = partition_key
    extra = _Extra(
        metadata=envelope.metadata,
        version=None if fits else envelope.version,
        key=key if partition_key is None else None,
        headers={name: value.decode() for name, value in rest.items() if is_utf8(value)},
        binary={name: value for name, value in rest.items() if not is_utf8(value)},
    )
    if extra != _Extra():
        extensions[_EXTRA] = _ascii_json(extra)
    return CloudEvent(
        id=str(envelope.event_id),
        source=_SOURCE_PREFIX + quote(envelope.service, safe=""),
        type=_TYPE_PREFIX + envelope.event_type,
        time=utc_text(envelope.timestamp),
        subject=partition_key,
        datacontenttype=JSON_TYPE,
        extensions=extensions,
        data=envelope.payload_json,
    )


def _read(event: CloudEvent, received: datetime | None) -> EnvelopeRecord:
    extensions = event.extensions
    extra = _read_extra(extensions.get(_EXTRA))
    event_id = _id(event.source, event.id)
    cause = extensions.get("causationid")
    envelope = Envelope(
        event_id=event_id,
        event_type=_event_type(event.type),
        correlation_id=_correlation(extensions, event_id),
        causation_id=None if not cause else _id(event.source, cause),
        timestamp=_moment(event.time, received),
        service=_service(event.source),
        payload=msgspec.Raw(payload_of(event)),
        version=extra.version or extensions.get("topicversion") or "v1",
        metadata=extra.metadata,
    )
    headers = _implied(envelope) | {"schema_version": _SCHEMA_VERSION}
    for header, pattern in _CARRIED.items():
        value = extensions.get(_attribute(header), "")
        if pattern.fullmatch(value):
            headers[header] = value.encode()
    more = {name: text.encode() for name, text in extra.headers.items()} | extra.binary
    headers |= {name: value for name, value in more.items() if name != "content_type"}
    key = _stated_key(event)
    return EnvelopeRecord(
        envelope=envelope,
        headers=tuple(headers.items()),
        key=str(envelope.correlation_id).encode() if key is None else key,
    )


def _stated_key(event: CloudEvent) -> bytes | None:
    key = event.extensions.get("partitionkey")
    return _read_extra(event.extensions.get(_EXTRA)).key if key is None else key.encode()


def _attribute(header: str) -> str:
    return header.replace("_", "")


def _kept(event: CloudEvent, record: EnvelopeRecord) -> EnvelopeRecord:
    """Return the record with the attributes of its CloudEvent in the metadata."""
    original = event.attributes | {_FORM: form_of(event)}
    metadata = (record.envelope.metadata or {}) | {ORIGINAL: original}
    envelope = msgspec.structs.replace(record.envelope, metadata=metadata)
    return EnvelopeRecord(envelope=envelope, headers=record.headers, key=record.key)


def _implied(envelope: Envelope) -> dict[str, bytes]:
    """Return the headers that follow from the envelope."""
    return {
        "content_type": JSON_TYPE.encode(),
        "correlation_id": str(envelope.correlation_id).encode(),
        "message_id": str(envelope.event_id).encode(),
        "timestamp": utc_text(envelope.timestamp).encode(),
        "source": envelope.service.encode(),
        "event_type": envelope.event_type.encode(),
    }


def _not_implied(envelope: Envelope, headers: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    implied = _implied(envelope)
    # The content type is that of the envelope's own encoding, which ends here.
    return {
        name: value
        for name, value in dict(headers).items()
        if name != "content_type" and implied.get(name) != value
    }


def _read_extra(text: str | None) -> _Extra:
    if text is None:
        return _Extra()
    try:
        return _extra_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _Extra()


def _ascii_json(extra: _Extra) -> str:
    """Return JSON that an attribute can hold, whatever the texts in it."""
    try:
        text = msgspec.json.encode(extra).decode()
    except (TypeError, ValueError) as exc:
        raise InvalidEventError(f"envelope: metadata: {exc}", field="metadata") from None
    # JSON has no control characters but inside of texts, where they are escaped; DEL is not.
    return "".join(c if " " <= c < "\x7f" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _text(value: bytes | None) -> str | None:
    """Return what an attribute can hold of a header or key; None when it cannot."""
    if not value or not is_utf8(value):
        return None
    text = value.decode()
    return text if is_text(text) else None


def _id(source: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        # Ids of CloudEvents are unique within their source only.
        return correlation_uuid(f"{source}#{text}")


def _event_type(text: str) -> str:
    name = text.removeprefix(_TYPE_PREFIX)
    if is_event_type(name):
        return name
    words = _NOT_WORD.sub("_", upper_snake(text).upper()).strip("_")
    if not words:
        return "CLOUD_EVENT"
    return words if words[0].isalpha() else f"CE_{words}"


def _service(source: str) -> str:
    if source.startswith(_SOURCE_PREFIX):
        try:
            service = unquote(source.removeprefix(_SOURCE_PREFIX), errors="strict")
        except UnicodeDecodeError:
            return source
        if service:
            return service
    return source


def _correlation(extensions: Mapping[str, str], event_id: UUID) -> UUID:
    if stated := extensions.get("correlationid"):
        return correlation_uuid(stated)
    trace = _TRACEPARENT.fullmatch(extensions.get("traceparent", ""))
    if trace is not None and trace[1] != _NO_TRACE:
        return UUID(hex=trace[1])
    return event_id


def _moment(text: str | None, received: datetime | None) -> datetime:
    if text is None and received is None:
        raise UndecodableError(
            "CloudEvent has no time: give `received`, the time of the record", field="time"
        )
    try:
        return read_instant(received if text is None else text)
    except ValueError as exc:
        raise UndecodableError(f"CloudEvent: time: {exc}", field="time") from None

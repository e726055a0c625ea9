"""The envelope: what every event wears on the bus."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

import msgspec

from spile.spi import UndecodableError
from spile.topics._json import is_deeper, json_encoder
from spile.topics._limits import MAX_ENVELOPE_DEPTH, MAX_RECORD_BYTES

_EVENT_TYPE: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_BRACE: Final = ord("{")
_FIELD: Final = re.compile(r"`\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")

_Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """
    One event with its ids, as it stands in the value of a record.

    Attributes:
        event_id: Stores know the event by it.
        event_type: UPPER_SNAKE_CASE.
        correlation_id: Shared by all events of one request, run or session.
        causation_id: The event that caused this one.
        timestamp: When it happened, in UTC.
        service: Who published it.
        payload: The payload's JSON, not decoded: `EventContract.decode` makes the typed model.
        version: Version of the topic that it was published to.
        metadata: More facts, as a JSON object.
    """

    event_id: UUID
    event_type: _Text
    correlation_id: UUID
    timestamp: _Instant
    service: _Text
    payload: msgspec.Raw
    causation_id: UUID | None = None
    version: _Text = "v1"
    metadata: dict[str, Any] | None = None

    @property
    def payload_json(self) -> bytes:
        """The payload as it stood on the wire."""
        return bytes(self.payload)

    async def get_payload(self) -> dict[str, Any]:
        """Return the payload as a JSON object, decoded anew at each call."""
        return msgspec.json.decode(self.payload)


_decoder: Final = msgspec.json.Decoder(Envelope)


def envelope_decoder(payload: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    """
    Return a decoder of envelopes whose payload is decoded and checked in the same pass.

    What it returns has the attributes of `Envelope`, with the struct as the payload.
    """
    fields = [
        (field.name, payload if field.name == "payload" else field.type, field.default)
        if not field.required
        else (field.name, payload if field.name == "payload" else field.type)
        for field in msgspec.structs.fields(Envelope)
    ]
    return msgspec.json.Decoder(
        msgspec.defstruct(
            f"Envelope{payload.__name__}", fields, frozen=True, kw_only=True, gc=False
        )
    )


@lru_cache(maxsize=4096)
def is_event_type(text: str) -> bool:
    """Say whether a text is UPPER_SNAKE_CASE."""
    return _EVENT_TYPE.fullmatch(text) is not None


def wrong_field(exc: msgspec.ValidationError) -> str | None:
    """Return the path of the field that msgspec refused."""
    text = str(exc)
    found = _FIELD.search(text)
    path = found.group(1) if found else ""
    if missing := _MISSING.search(text):
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
    return path or None


def decode_envelope(data: bytes) -> Envelope:
    """
    Read an envelope. Unknown fields are left alone, the payload stays as it is.

    The payload keeps the data alive: it is a view of it, no copy.

    Args:
        data: UTF-8 JSON; at most `MAX_RECORD_BYTES`, nested at most `MAX_ENVELOPE_DEPTH` deep.

    Raises:
        UndecodableError: It is no envelope; the error names the field.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise UndecodableError(f"envelope has {len(data)} bytes, limit {MAX_RECORD_BYTES}")
    try:
        envelope = _decoder.decode(data)
    except msgspec.ValidationError as exc:
        field = wrong_field(exc)
        raise UndecodableError(f"envelope: {field or 'value'}: {exc}", field=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UndecodableError(f"envelope is no JSON: {exc}") from None
    except RecursionError:
        raise UndecodableError(_too_deep()) from None
    if not is_event_type(envelope.event_type):
        raise UndecodableError(
            f"envelope: event_type: {envelope.event_type[:80]!r} is not UPPER_SNAKE_CASE",
            field="event_type",
        )
    if envelope.timestamp.tzinfo is not UTC:
        _make_utc(envelope)
    if memoryview(envelope.payload)[0] != _BRACE:
        raise UndecodableError("envelope: payload: expected an object", field="payload")
    if is_deeper(data, MAX_ENVELOPE_DEPTH):
        raise UndecodableError(_too_deep())
    return envelope


def _make_utc(envelope: Envelope) -> None:
    try:
        moment = envelope.timestamp.astimezone(UTC)
    except OverflowError:
        raise UndecodableError(
            "envelope: timestamp: its year in UTC is not 1 to 9999", field="timestamp"
        ) from None
    msgspec.structs.force_setattr(envelope, "timestamp", moment)


def _too_deep() -> str:
    return f"envelope is nested deeper than {MAX_ENVELOPE_DEPTH} levels"


def encode_envelope(
    *,
    event_id: str,
    event_type: str,
    correlation_id: str,
    causation_id: str | None,
    timestamp: str,
    service_json: bytes,
    payload_json: bytes,
    version: str = "v1",
    metadata: dict[str, Any] | None = None,
) -> bytes:
    """
    Join an envelope from parts that are ready.

    Nothing is checked or escaped: ids, type, timestamp and version must be canonical (`parse_uuid`,
    `uuid7_text`, `Route.event_type`, `Prepared.timestamp`, `TopicName.version`), the service and
    the payload are JSON already. `decode_envelope` reads the result back.

    Raises:
        TypeError: The metadata holds what JSON cannot.
    """
    causation = f'"causation_id":"{causation_id}",' if causation_id is not None else ""
    head = (
        f'{{"event_id":"{event_id}","event_type":"{event_type}",'
        f'"correlation_id":"{correlation_id}",{causation}'
        f'"timestamp":"{timestamp}","version":"{version}","service":'
    ).encode()
    if metadata is None:
        return b"".join((head, service_json, b',"payload":', payload_json, b"}"))
    more = json_encoder.encode(metadata)
    return b"".join((head, service_json, b',"metadata":', more, b',"payload":', payload_json, b"}"))

"""Reading any event: the data says which one it is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from pydantic import BaseModel, ValidationError

from spile.spi import InvalidEventError, UndecodableError
from spile.topics._event_names import upper_snake
from spile.topics._json import find_non_finite, is_deeper, json_encoder
from spile.topics._limits import MAX_ENVELOPE_DEPTH, MAX_RECORD_BYTES
from spile.topics.events._models import MODELS, Wrapped, wire_name
from spile.topics.events.observability import UPCASTS, ObservabilityEvent
from spile.topics.events.observability._base import explain
from spile.topics.events.telemetry import telemetry_model
from spile.topics.payloads._envelope import decode_envelope, is_event_type
from spile.topics.redaction import quotable

_SHOWN: Final = 80
_ENVELOPE: Final = frozenset({"event_id", "correlation_id", "service", "payload"})


def parse(data: bytes | str | Mapping[str, Any]) -> BaseModel:
    """
    Read an event of any family.

    Which one it is stands in `event_type` (`PreToolUse`, `session_start`), in the `event` of
    telemetry (`plan.step_started`), or in the envelope around it, whose payload is returned.
    Observability events are read nested and flat. Of a key that stands twice in an object the last
    counts, as everywhere on the bus. Requests and their answers do not say what they are: without
    an envelope they stand in an object with `event_type` and `payload`. An observability event that
    states no version is one of 1.0.0, from before events stated it; of an envelope the header says.

    Args:
        data: JSON of at most `MAX_RECORD_BYTES`, nested at most `MAX_ENVELOPE_DEPTH` deep, or an
            object of the same size.

    Raises:
        InvalidEventError: It is no JSON object, says no known event type, or breaks the event's
            model. Names the field and what comes close; a `ValueError`.
    """
    raw = _as_json(data)
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidEventError(f"the event is no JSON: {exc}") from None
    if not isinstance(value, dict):
        raise InvalidEventError(f"the event must be an object, got {type(value).__name__}")
    if is_deeper(raw, MAX_ENVELOPE_DEPTH):
        raise InvalidEventError(f"the event is nested deeper than {MAX_ENVELOPE_DEPTH} levels")
    values = cast("dict[str, Any]", value)
    if _is_envelope(values):
        return _read_envelope(raw)
    model = _model_of(values)
    if issubclass(model, ObservabilityEvent) and _states_no_version(values):
        return model.parse(UPCASTS.apply(values, UPCASTS.known[0]))
    return _read_bare(model, raw)


def _states_no_version(event: Mapping[str, Any]) -> bool:
    metadata = event.get("metadata")
    if metadata is None:
        return True
    return isinstance(metadata, dict) and "schema_version" not in metadata


def _as_json(data: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(data, str):
        try:
            raw = data.encode()
        except UnicodeEncodeError:
            raise InvalidEventError("the event is no JSON: it holds half a character") from None
    elif isinstance(data, bytes):
        raw = data
    else:
        raw = _encode(data)
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidEventError(f"the event has {len(raw)} bytes, limit {MAX_RECORD_BYTES}")
    return raw


def _encode(data: object) -> bytes:
    if not isinstance(data, Mapping):
        raise InvalidEventError(f"the event must be an object, got {type(data).__name__}")
    try:
        values = dict(cast("Mapping[str, Any]", data))
        raw = json_encoder.encode(values)
        # msgspec writes NaN and infinities as null.
        path = find_non_finite(values) if b"null" in raw else None
    except NotImplementedError as exc:
        raise InvalidEventError(f"the event holds a {exc}, which is no JSON value") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidEventError(f"the event is no JSON: {exc}") from None
    if path is not None:
        path = quotable(path)
        raise InvalidEventError(f"{path}: NaN and Infinity are no JSON numbers", field=path)
    return raw


def _is_envelope(values: Mapping[str, Any]) -> bool:
    kind = values.get("event_type")
    return isinstance(kind, str) and is_event_type(kind) and values.keys() >= _ENVELOPE


def _read_envelope(raw: bytes) -> BaseModel:
    try:
        envelope = decode_envelope(raw)
    except UndecodableError as exc:
        raise InvalidEventError(str(exc), field=exc.field) from None
    model = MODELS.get(envelope.event_type)
    if model is None:
        stated = msgspec.json.decode(envelope.payload, type=dict[str, Any]).get("event")
        if not isinstance(stated, str) or upper_snake(stated) != envelope.event_type:
            raise _unknown(envelope.event_type)
        model = telemetry_model(stated)
    return _read(model, envelope.payload_json)


def _model_of(values: Mapping[str, Any]) -> type[BaseModel]:
    kind = values.get("event_type")
    if kind is None and "run_id" in values and isinstance(event := values.get("event"), str):
        return telemetry_model(event)
    if kind is None:
        raise InvalidEventError(
            "event_type: missing: an event says what it is in event_type, telemetry in event",
            field="event_type",
        )
    if not isinstance(kind, str):
        raise InvalidEventError(
            f"event_type: expected a text, got {type(kind).__name__}", field="event_type"
        )
    model = MODELS.get(upper_snake(kind[:_SHOWN]))
    if model is None or len(kind) > _SHOWN:
        raise _unknown(kind)
    return model


def _unknown(kind: str) -> InvalidEventError:
    shown = kind[:_SHOWN]
    near = difflib.get_close_matches(upper_snake(shown), MODELS, n=3, cutoff=0.6)
    if is_event_type(shown):
        listed = near or list(MODELS)
    else:
        listed = [wire_name(MODELS[name]) or name for name in near or MODELS]
    hint = f"did you mean {' or '.join(listed)}?" if near else f"known are {', '.join(listed)}"
    shown = quotable(kind)
    return InvalidEventError(
        f"event_type: {shown!r} is no event type, {hint}", event_type=shown, field="event_type"
    )


def _read_bare(model: type[BaseModel], raw: bytes) -> BaseModel:
    if wire_name(model) is not None:
        return _read(model, raw)
    try:
        wrapped = msgspec.json.decode(raw, type=Wrapped)
    except msgspec.ValidationError as exc:
        raise InvalidEventError(
            f"payload: the fields of {model.__name__} stand under it, nothing but event_type "
            f"stands beside it: {exc}",
            event_type=model.__name__,
            field="payload",
        ) from None
    return _read(model, bytes(wrapped.payload))


def _read(model: type[BaseModel], raw: bytes) -> BaseModel:
    if issubclass(model, ObservabilityEvent):
        return model.parse(raw)
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as exc:
        raise explain(exc, model) from None

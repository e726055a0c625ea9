"""One event type in JSON, MessagePack and Avro: what each writes and how it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from functools import cached_property, lru_cache, partial
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from msgspec import inspect
from pydantic import BaseModel

from spile.spi import InvalidEventError, UndecodableError
from spile.topics._event_names import upper_snake
from spile.topics._json import check_json, json_encoder
from spile.topics._limits import MAX_ENVELOPE_DEPTH, MAX_JSON_DEPTH
from spile.topics.encodings._avro import AvroSchema
from spile.topics.encodings._avro_models import avro_schema
from spile.topics.events import MODELS, TelemetryEvent, telemetry_model
from spile.topics.events.observability._base import (
    EventMetadata,
    ObservabilityEvent,
    PerformanceMetrics,
)
from spile.topics.payloads._codec import NO_METADATA, NO_METRICS, EventCodec, trusted, utc_text
from spile.topics.payloads._contract import EventContract

_SHOWN: Final = 80
_NAMING_FIELDS: Final = ("event_type", "event")
_find_nan_64: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search
_find_nan_32: Final = re.compile(rb"\xca[\x7f\xff][\x80-\xff]").search
_MARKER: Final = b"\xc3\x01"
_FINGERPRINT_BYTES: Final = 8
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode
_REFUSALS: Final = (
    AttributeError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Stated(msgspec.Struct):
    """The fields of an event that say what it is."""

    event_type: str | None = None
    event: str | None = None


_read_stated: Final = msgspec.json.Decoder(_Stated).decode


class EventForm:
    """
    One event type, ready to be written and read.

    An event whose model does not say what it is (those of requests) stands in an object with
    `event_type` and `payload`.

    Args:
        event_type: UPPER_SNAKE_CASE.
        model: The event's model.

    Attributes:
        event_type: As given.
    """

    def __init__(self, event_type: str, model: type[BaseModel]) -> None:
        self.event_type = event_type
        self._model = model
        self._contract = EventContract(event_type, model)
        self._is_wrapped = wire_name(model) is None
        self._fast = _FastPath(model) if issubclass(model, ObservabilityEvent) else None

    def write_json(self, event: BaseModel) -> bytes:
        """
        Return the event as JSON.

        Raises:
            InvalidEventError: It breaks its model.
            MessageTooLargeError: It has more than `MAX_PAYLOAD_BYTES`.
        """
        raw = self._contract.prepare(event).payload_json
        if self._is_wrapped:
            return b'{"event_type":"%b","payload":%b}' % (self.event_type.encode(), raw)
        return raw

    def read_json(self, data: bytes) -> Any:
        """
        Return the event of JSON.

        Raises:
            UndecodableError: It is none.
        """
        if not self._is_wrapped:
            return self._contract.decode(data)
        try:
            return self._contract.decode(msgspec.json.decode(data, type=_Wrapped).payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UndecodableError(f"{self.event_type}: {exc}") from None

    def write_message_pack(self, event: BaseModel) -> bytes:
        """
        Return the event as MessagePack; errors as `write_json`.

        Raises:
            InvalidEventError: It breaks its model, or holds a number of more than 64 bits.
            MessageTooLargeError: It has more than `MAX_PAYLOAD_BYTES` as JSON.
        """
        if self._fast is not None and (data := self._fast.write(event)) is not None:
            return data
        try:
            return _pack(msgspec.json.decode(self.write_json(event)))
        except OverflowError:
            raise InvalidEventError(
                f"{self.event_type}: MessagePack has no numbers of more than 64 bits",
                event_type=self.event_type,
            ) from None

    def read_message_pack(self, data: bytes, tree: dict[str, Any]) -> Any:
        """
        Return the event of MessagePack.

        Args:
            data: The bytes.
            tree: The same, decoded.

        Raises:
            UndecodableError: It is none.
        """
        if self._fast is not None and (event := self._fast.read(data, tree)) is not None:
            return event
        return self.read_json(tree_to_json(tree))

    @cached_property
    def avro(self) -> AvroSchema:
        """The Avro schema of the model."""
        return AvroSchema.parse(avro_schema(self._model))

    def write_avro(self, event: BaseModel) -> bytes:
        """
        Return the event in Avro's single-object encoding; errors as `write_json`.

        Raises:
            InvalidEventError: It breaks its model.
            MessageTooLargeError: It has more than `MAX_PAYLOAD_BYTES` as JSON.
        """
        raw = self._contract.prepare(event).payload_json
        return _MARKER + self.avro.fingerprint + self.avro.encode(msgspec.json.decode(raw))

    def read_avro(self, data: bytes) -> Any:
        """
        Return the event of Avro's single-object encoding.

        Raises:
            UndecodableError: It is none.
        """
        body = data[len(_MARKER) + _FINGERPRINT_BYTES :]
        return self._contract.decode(self.avro.decode_json(body))


class _Wrapped(msgspec.Struct, forbid_unknown_fields=True):
    """A payload whose model does not name itself."""

    event_type: str
    payload: msgspec.Raw


class _FastPath:
    """
    MessagePack of observability events without pydantic.

    MessagePack has more than JSON: binary, extensions, keys of any type, NaN. Where the struct
    would take one of these for a UUID, a time or a number, and inside the caller's JSON, it is
    looked for; whatever is found goes the slow way, which judges it as JSON.
    """

    def __init__(self, model: type[ObservabilityEvent]) -> None:
        struct = EventCodec(model).struct
        self._model = model
        self._unset = dict.fromkeys(model.model_fields)
        self._common = tuple(name for name in self._unset if name in model.COMMON)
        self._own = tuple(name for name in self._unset if name not in model.COMMON)
        self._json = _free_fields(struct)
        self._decode = msgspec.msgpack.Decoder(struct).decode
        self._convert = partial(msgspec.convert, type=struct)

    def write(self, event: BaseModel) -> bytes | None:
        """Return the bytes; None when the slow way must decide."""
        if type(event) is not self._model:
            return None
        try:
            nested = self._nested(event)
            data = _pack(nested)
            self._decode(data)  # what is written is what can be read
        except _REFUSALS:
            return None
        return data if self._is_plain(data, nested, _WRITTEN_KINDS) else None

    def read(self, data: bytes, tree: dict[str, Any]) -> ObservabilityEvent | None:
        """Return the event; None when the slow way must decide."""
        try:
            struct = self._convert(tree)
            is_plain = self._is_plain(data, tree, _READ_KINDS)
            return self._instance(struct, tree) if is_plain else None
        except _REFUSALS:
            return None

    def _is_plain(self, data: bytes, tree: dict[str, Any], kinds: frozenset[type]) -> bool:
        """Say whether an event of right types has nothing that JSON has not."""
        outer = (*tree.values(), *tree["metadata"].values())
        if not set(map(type, outer)) <= kinds:
            return False
        payload = tree["payload"]
        for name in self._json:
            if name in payload and not _is_json(payload[name], MAX_JSON_DEPTH):
                return False
        return not _may_hold_nan(data) or _is_finite(tree)

    def _nested(self, event: ObservabilityEvent) -> dict[str, Any]:
        values = event.__dict__
        nested = {name: value for name in self._common if (value := values[name]) is not None}
        nested["timestamp"] = utc_text(nested["timestamp"])
        nested["metadata"] = _given(nested["metadata"])
        if "performance_metrics" in nested:
            nested["performance_metrics"] = _given(nested["performance_metrics"])
        nested["payload"] = {
            name: value for name in self._own if (value := values[name]) is not None
        }
        return nested

    def _instance(self, struct: Any, tree: dict[str, Any]) -> ObservabilityEvent | None:
        """Make the event of what is set; a left-out field with a default goes the slow way."""
        metadata = tree["metadata"]
        if (
            "event_id" not in tree
            or "timestamp" not in tree
            or "event_type" not in tree
            or "event_category" not in tree
            or "schema_version" not in metadata
        ):
            return None
        values = {name: getattr(struct, name) for name in tree}
        own = values.pop("payload")
        for name in tree["payload"]:
            values[name] = getattr(own, name)
        if (moment := values["timestamp"]).tzinfo is not UTC:
            values["timestamp"] = moment.astimezone(UTC)
        given = {name: getattr(values["metadata"], name) for name in metadata}
        values["metadata"] = trusted(EventMetadata, given, NO_METADATA)
        if (metrics := values.get("performance_metrics")) is not None:
            given = {name: getattr(metrics, name) for name in tree["performance_metrics"]}
            values["performance_metrics"] = trusted(PerformanceMetrics, given, NO_METRICS)
        return trusted(self._model, values, self._unset)


def _given(value: BaseModel) -> dict[str, Any]:
    return {name: item for name, item in value.__dict__.items() if item is not None}


_READ_KINDS: Final = frozenset({str, dict, list, int, float})
_WRITTEN_KINDS: Final = _READ_KINDS | {UUID}
_PLAIN_TYPES: Final = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.LiteralType,
    inspect.NoneType,
)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_TEXT: Final = {str}
_FLOAT: Final = {float}


def _is_json(value: Any, levels: int) -> bool:
    """Say whether decoded MessagePack is JSON, but for NaN; so many levels may be left."""
    kind: Any = cast("Any", type(value))
    items: Any = value
    if kind is dict:
        if items and set(map(type, items)) != _TEXT:
            return False
        items = items.values()
    elif kind is not list:
        return kind in _SCALARS
    if not levels:
        return False
    if set(map(type, items)) <= _SCALARS:
        return True
    return all(_is_json(item, levels - 1) for item in items if type(item) not in _SCALARS)


def _free_fields(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the event's own fields that hold the caller's JSON; nothing else may hold binary."""
    info: Any = inspect.type_info(struct)
    payload = next(field.type for field in info.fields if field.name == "payload")
    return tuple(
        field.encode_name
        for field in payload.fields
        if not all(map(_is_plain, getattr(field.type, "types", (field.type,))))
    )


def _is_plain(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.ListType):
        return _is_plain(type_.item_type)
    return isinstance(type_, _PLAIN_TYPES)


def _may_hold_nan(data: bytes) -> bool:
    return _find_nan_64(data) is not None or (b"\xca" in data and _find_nan_32(data) is not None)


def _is_finite(value: Any) -> bool:
    """Say whether every number in a tree is one; asked when the bytes look otherwise."""
    if type(value) is dict:
        return all(map(_is_finite, cast("dict[str, Any]", value).values()))
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return all(map(math.isfinite if set(map(type, items)) == _FLOAT else _is_finite, items))
    return type(value) is not float or math.isfinite(value)


def unpack(data: bytes) -> dict[str, Any]:
    """
    Decode MessagePack that must be an object.

    Raises:
        UndecodableError: It is none, or something stands behind it.
    """
    try:
        tree = _unpack(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UndecodableError(f"MessagePack: {_short(exc)}") from None
    except (ValueError, TypeError, OverflowError) as exc:  # a time beyond the calendar, a key
        raise UndecodableError(f"MessagePack: {_short(exc)}") from None
    if type(tree) is not dict:
        raise UndecodableError("MessagePack: expected an object")
    return cast("dict[str, Any]", tree)


def tree_to_json(tree: dict[str, Any]) -> bytes:
    """
    Return what MessagePack held as JSON.

    Raises:
        UndecodableError: It holds what JSON has not: binary, extensions, times, keys that are no
            texts, NaN; or it is nested too deep.
    """
    try:
        _check(tree, 0)
        return json_encoder.encode(tree)
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as exc:
        raise UndecodableError(f"MessagePack: {exc}") from None


def _check(value: Any, depth: int) -> None:
    """Check the outer levels here, and what is inside them as caller-defined JSON."""
    if type(value) is dict and depth < MAX_ENVELOPE_DEPTH - MAX_JSON_DEPTH:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise ValueError("a key is no text")
            _check(item, depth + 1)
    else:
        check_json(value)


def _short(exc: Exception) -> str:
    return "a text is no UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc)


def wire_name(model: type[BaseModel]) -> str | None:
    """Return what an event of this model calls itself; None when it does not."""
    for field in _NAMING_FIELDS:
        if field in model.model_fields:
            return str(model.model_fields[field].default)
    return None


_FORMS: Final = {
    wire_name(model) or event_type: EventForm(event_type, model)
    for event_type, model in MODELS.items()
}
_BY_MODEL: Final = dict(zip(MODELS.values(), _FORMS.values(), strict=True))


@lru_cache(maxsize=1024)
def _telemetry_form(model: type[TelemetryEvent]) -> EventForm:
    return EventForm(upper_snake(str(wire_name(model))), model)


def form_of(event: BaseModel) -> EventForm:
    """
    Return the form of an event.

    Raises:
        InvalidEventError: Its class is no model of an event.
    """
    form = _BY_MODEL.get(type(event))
    if form is None and isinstance(event, TelemetryEvent):
        return _telemetry_form(type(event))
    if form is None:
        raise InvalidEventError(f"{type(event).__name__} is no model of an event")
    return form


def form_named(event_type: object, event: object) -> EventForm:
    """
    Return the form of what data say they are.

    Args:
        event_type: What stands in `event_type`.
        event: What stands in `event`.

    Raises:
        UndecodableError: There is no such event.
    """
    name = event if event_type is None else event_type
    if isinstance(name, str):
        form = _FORMS.get(name)
        if form is not None:
            return form
        if event_type is None:
            try:
                return _telemetry_form(telemetry_model(name))
            except InvalidEventError as exc:
                raise UndecodableError(str(exc), field="event") from None
    raise UndecodableError(
        f"event_type: {str(name)[:_SHOWN]!r} is no event type", field="event_type"
    )


def form_of_json(data: bytes) -> EventForm:
    """
    Return the form of JSON.

    Raises:
        UndecodableError: It is no JSON object, or says no known event type.
    """
    try:
        stated = _read_stated(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UndecodableError(f"JSON: {_short(exc)}") from None
    return form_named(stated.event_type, stated.event)


def form_of_message_pack(tree: Mapping[str, Any]) -> EventForm:
    """
    Return the form of decoded MessagePack.

    Raises:
        UndecodableError: It says no known event type.
    """
    return form_named(tree.get("event_type"), tree.get("event"))


@lru_cache(maxsize=1)
def _by_fingerprint() -> dict[bytes, EventForm]:
    return {form.avro.fingerprint: form for form in _FORMS.values()}


def _registered(wanted: bytes) -> EventForm | None:
    """Return the form of telemetry that a subsystem registered, whenever that was."""
    for model in TelemetryEvent.__subclasses__():
        form = _telemetry_form(model)
        if form.avro.fingerprint == wanted:
            return form
    return None


def form_of_avro(data: bytes) -> EventForm:
    """
    Return the form of Avro's single-object encoding, by its fingerprint.

    Raises:
        UndecodableError: It is too short, has another marker or an unknown fingerprint.
    """
    fingerprint = data[len(_MARKER) : len(_MARKER) + _FINGERPRINT_BYTES]
    if not data.startswith(_MARKER) or len(fingerprint) != _FINGERPRINT_BYTES:
        raise UndecodableError("Avro: expected the marker C3 01 and a fingerprint of 8 bytes")
    form = _by_fingerprint().get(fingerprint) or _registered(fingerprint)
    if form is None:
        raise UndecodableError(f"Avro: no schema has the fingerprint {fingerprint.hex()}")
    return form

"""One event type in JSON, MessagePack and Avro: what each writes and how it is read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from spile.spi import InvalidEventError, SchemaError, UndecodableError
from spile.topics._event_names import upper_snake
from spile.topics.encodings._message_pack import FastPath, pack, short, tree_to_json
from spile.topics.encodings.avro._models import avro_schema
from spile.topics.encodings.avro._schema import AvroSchema
from spile.topics.events import MODELS, ObservabilityEvent, TelemetryEvent, telemetry_model
from spile.topics.events._models import Wrapped, wire_name
from spile.topics.events.telemetry._registry import telemetry_models
from spile.topics.payloads._contract import EventContract

_SHOWN: Final = 80
_MARKER: Final = b"\xc3\x01"
_FINGERPRINT_BYTES: Final = 8


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
        self._is_wrapped = wire_name(model) is None

    @cached_property
    def _contract(self) -> EventContract:
        return EventContract(self.event_type, self._model)

    @cached_property
    def fast(self) -> FastPath | None:
        """The way past pydantic, where there is one."""
        return FastPath(self._model) if issubclass(self._model, ObservabilityEvent) else None

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
            return self._contract.decode(msgspec.json.decode(data, type=Wrapped).payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UndecodableError(f"{self.event_type}: {exc}") from None

    def write_message_pack(self, event: BaseModel) -> bytes:
        """
        Return the event as MessagePack; errors as `write_json`.

        Raises:
            InvalidEventError: It breaks its model, or holds a number of more than 64 bits.
            MessageTooLargeError: It has more than `MAX_PAYLOAD_BYTES` as JSON.
        """
        if self.fast is not None and (data := self.fast.write(event)) is not None:
            return data
        try:
            return pack(msgspec.json.decode(self.write_json(event)))
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
        if self.fast is not None and (event := self.fast.read(data, tree)) is not None:
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

    def read_avro(self, data: bytes, superseded: AvroSchema | None = None) -> Any:
        """
        Return the event of Avro's single-object encoding.

        Args:
            data: The bytes.
            superseded: The schema that it was written with, where that is not the newest.

        Raises:
            UndecodableError: It is none.
        """
        body = data[len(_MARKER) + _FINGERPRINT_BYTES :]
        return self._contract.decode((superseded or self.avro).decode_json(body))


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
        InvalidEventError: Its class is no model of an event, or telemetry that nobody registered.
    """
    form = _BY_MODEL.get(type(event))
    if form is None and isinstance(event, TelemetryEvent):
        # What no reader could find must not be written.
        if telemetry_model(event.event) is type(event):
            return _telemetry_form(type(event))
        raise InvalidEventError(
            f"{type(event).__name__} is not the model that register_telemetry made for "
            f"{event.event!r}",
            field="event",
        )
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
        raise UndecodableError(f"JSON: {short(exc)}") from None
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
    for model in telemetry_models():
        form = _telemetry_form(model)
        # A payload without an Avro schema, such as a tree, was never written as Avro.
        with contextlib.suppress(SchemaError):
            if form.avro.fingerprint == wanted:
                return form
    return None


@lru_cache(maxsize=1)
def _superseded() -> dict[bytes, tuple[EventForm, AvroSchema]]:
    """Return the schemas of released versions that a newer one took the place of."""
    found: dict[bytes, tuple[EventForm, AvroSchema]] = {}
    for file in resources.files("spile.topics.encodings").joinpath("superseded").iterdir():
        event_type = file.name.partition("-")[0]
        schema = AvroSchema.parse(file.read_text(encoding="utf-8"))
        found[schema.fingerprint] = (_BY_MODEL[MODELS[event_type]], schema)
    return found


def read_avro(data: bytes) -> Any:
    """
    Return the event of Avro's single-object encoding; its fingerprint says which it is.

    Raises:
        UndecodableError: It is too short, has another marker or an unknown fingerprint, or is no
            event.
    """
    fingerprint = data[len(_MARKER) : len(_MARKER) + _FINGERPRINT_BYTES]
    if not data.startswith(_MARKER) or len(fingerprint) != _FINGERPRINT_BYTES:
        raise UndecodableError("Avro: expected the marker C3 01 and a fingerprint of 8 bytes")
    form = _by_fingerprint().get(fingerprint) or _registered(fingerprint)
    if form is not None:
        return form.read_avro(data)
    if (old := _superseded().get(fingerprint)) is not None:
        return old[0].read_avro(data, old[1])
    raise UndecodableError(f"Avro: no schema has the fingerprint {fingerprint.hex()}")

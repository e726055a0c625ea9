"""How payloads of the three kinds are validated and written: events, other models, free objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from msgspec.inspect import type_info
from pydantic import BaseModel

from spile.spi import InvalidEventError
from spile.topics._ids import uuid7_text
from spile.topics._json import find_non_finite, holds_null, is_deeper, json_encoder
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics._wire import read_instant
from spile.topics.events.observability._base import (
    EventMetadata,
    ObservabilityEvent,
    PerformanceMetrics,
    nest,
)
from spile.topics.events.observability._upcasting import SCHEMA_VERSION
from spile.topics.payloads._fast import make_struct, struct_of
from spile.topics.redaction import quotable


class Codec(Protocol):
    """Writes and reads the payloads of one event type."""

    fast: bool

    @property
    def struct(self) -> type[msgspec.Struct] | None:
        """The struct of the fast path, None without one."""
        ...

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Return the JSON, and the validated top-level values; values may be texts or typed."""
        ...

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Return the typed payload; errors are InvalidEventError, ValidationError or msgspec's."""
        ...

    def view(self, data: msgspec.Raw) -> Any:
        """Return the validated payload as the lightest object there is; errors as `read`."""
        ...


def encode(value: object) -> bytes:
    """
    Encode a payload as JSON.

    Raises:
        InvalidEventError: It holds what JSON cannot, NaN and infinities included.
    """
    try:
        data = json_encoder.encode(value)
        # msgspec writes NaN and infinities as null.
        path = find_non_finite(value) if holds_null(data) else None
    except NotImplementedError as exc:
        raise InvalidEventError(f"payload holds a {exc}, which is no JSON value") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidEventError(f"payload is no JSON value: {exc}") from None
    if path is not None:
        path = quotable(path)
        raise InvalidEventError(f"{path}: NaN and Infinity are no JSON numbers", field=path)
    return data


def _as_json(data: bytes | msgspec.Raw | Mapping[str, Any]) -> bytes:
    return encode(data) if isinstance(data, Mapping) else bytes(data)


class FreeCodec:
    """Payloads without a model: any JSON object."""

    fast = True
    struct = None

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Write it as it is; a model is written as pydantic does."""
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json", by_alias=True)
        return encode(payload), payload

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an object."""
        return msgspec.json.decode(_as_json(data), type=dict[str, Any])

    def view(self, data: msgspec.Raw) -> Any:
        """Read an object."""
        return msgspec.json.decode(data, type=dict[str, Any])


class ModelCodec:
    """Payloads with a pydantic model of the user's; always validated strictly, as JSON."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        struct = struct_of(model)
        self._decoder = None if struct is None else msgspec.json.Decoder(struct)
        self.struct = struct
        self.fast = struct is not None
        self.holds_times = struct is not None and "DateTimeType" in repr(type_info(struct))

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Validate a mapping or an instance, and write it with its defaults."""
        if isinstance(payload, BaseModel):
            if not isinstance(payload, self._model):
                raise _wrong_class(payload, self._model)
            raw = encode(payload.__dict__) if self.fast else _dump(payload)
        else:
            raw = encode(payload)
        if self._decoder is not None and not self.may_overflow(raw):
            try:
                value = self._decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                # Decoded from JSON it can hold nothing that JSON cannot.
                return json_encoder.encode(value), _Attributes(value)
        model = self._model.model_validate_json(raw, strict=True)
        return _dump(model), model.__dict__

    def may_overflow(self, raw: bytes) -> bool:
        """
        Say whether a time may lie at an end of the calendar.

        There an offset leads out of it, which pydantic minds and msgspec does not.
        """
        return self.holds_times and (b'"0001-' in raw or b'"9999-' in raw)

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an instance of the model."""
        return self._model.model_validate_json(_as_json(data), strict=True)

    def view(self, data: msgspec.Raw) -> Any:
        """Read a struct with the fields of the model; the model itself without a fast path."""
        raw = bytes(data)
        if (
            self._decoder is not None
            and not self.may_overflow(raw)
            and not is_deeper(raw, MAX_JSON_DEPTH)
        ):
            try:
                return self._decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        model = self.read(raw)
        return model if self._decoder is None else self._decoder.decode(_dump(model))


class EventCodec:
    """Observability events: flat in Python, nested on the wire."""

    def __init__(self, model: type[ObservabilityEvent]) -> None:
        self._model = model
        fields = model.model_fields
        self._type = str(fields["event_type"].default)
        self._category = str(fields["event_category"].default)
        common = {k: f for k, f in fields.items() if k in model.COMMON}
        own = {k: f for k, f in fields.items() if k not in model.COMMON}
        payload = make_struct(f"{model.__name__}Payload", own, omit_none=True)
        struct = make_struct(model.__name__, common, {"payload": payload}, omit_none=True)
        self._decoder = msgspec.json.Decoder(struct)
        self._unset = dict.fromkeys(fields)
        self.struct = struct
        self.fast = True

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Validate a mapping (nested or flat) or an instance, and write it nested."""
        if type(payload) is self._model:
            nested = self.nested(cast("ObservabilityEvent", payload))
        elif isinstance(payload, dict):  # quicker than asking for an abstract class
            nested = self._complete(payload)
        elif isinstance(payload, BaseModel):
            raise _wrong_class(payload, self._model)
        else:
            nested = self._complete(payload)
        raw = encode(nested)
        try:
            self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            nested = self._model.parse(encode(nested)).model_dump(mode="json")
            return encode(nested), nested
        if not _is_utc_text(nested["timestamp"]):
            nested["timestamp"] = _to_utc_text(nested["timestamp"])
            raw = encode(nested)
        return raw, nested

    def nested(self, event: ObservabilityEvent) -> dict[str, Any]:
        """Return the wire form of an event, not validated again; ids are UUIDs still."""
        values = event.__dict__.copy()
        if type(timestamp := values["timestamp"]) is datetime:
            values["timestamp"] = utc_text(timestamp)
        values["metadata"] = _plain(values["metadata"])
        values["performance_metrics"] = _plain(values["performance_metrics"])
        return nest(values, self._model.COMMON)

    def _complete(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        nested = dict(payload) if "payload" in payload else self._arranged(payload)
        given = nested.get
        if given("event_id") is None:
            nested["event_id"] = uuid7_text()
        if given("timestamp") is None:
            nested["timestamp"] = utc_text(datetime.now(UTC))
        if given("metadata") is None:
            nested["metadata"] = {"schema_version": SCHEMA_VERSION}
        nested.setdefault("event_type", self._type)
        nested.setdefault("event_category", self._category)
        return nested

    def _arranged(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Nest a caller's fields, nulls included: an unknown field is an error even when null."""
        common, nested, own = self._model.COMMON, dict[str, Any](), dict[str, Any]()
        for name, value in flat.items():
            (nested if name in common else own)[name] = value
        nested["payload"] = own
        return nested

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an instance of the model, nested or flat."""
        if isinstance(data, Mapping):
            return self._model.parse(data)
        raw = bytes(data)
        try:
            struct = self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._model.parse(raw)
        if is_deeper(raw, MAX_JSON_DEPTH):
            return self._model.parse(raw)
        try:
            return self.instance(struct)
        except OverflowError:
            return self._model.parse(raw)

    def view(self, data: msgspec.Raw) -> Any:
        """Read a struct with the common fields and, under `payload`, the event's own."""
        try:
            struct = self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parsed = self._model.parse(bytes(data))
            return self._decoder.decode(encode(parsed.model_dump(mode="json")))
        if is_at_end_of_time(struct) or is_deeper(memoryview(data).tobytes(), MAX_JSON_DEPTH):
            self._model.parse(bytes(data))
        return struct

    def instance(self, struct: msgspec.Struct) -> ObservabilityEvent:
        """
        Return the event that a struct of this codec stands for.

        Raises:
            OverflowError: Its time lies beyond the calendar in UTC.
        """
        given = _set_fields(struct)
        given.update(_set_fields(given.pop("payload")))
        if given["timestamp"].tzinfo is not UTC:
            given["timestamp"] = given["timestamp"].astimezone(UTC)
        given["metadata"] = _filled(EventMetadata, _set_fields(given["metadata"]), NO_METADATA)
        if (metrics := given.get("performance_metrics")) is not None:
            given["performance_metrics"] = _filled(
                PerformanceMetrics, _set_fields(metrics), NO_METRICS
            )
        return _filled(self._model, given, self._unset)


def is_at_end_of_time(event: Any) -> bool:
    """Say whether an event's time lies where an offset leads out of the calendar."""
    return not _FIRST_YEAR < event.timestamp.year < _LAST_YEAR


_FIRST_YEAR: Final = 1
_LAST_YEAR: Final = 9999
NO_METADATA: Final = dict.fromkeys(EventMetadata.model_fields)
NO_METRICS: Final = dict.fromkeys(PerformanceMetrics.model_fields)
_new: Final = object.__new__
_slots: Final = cast("dict[str, Any]", vars(BaseModel))  # quicker than setting by name
_set_values: Final = _slots["__dict__"].__set__
_set_given: Final = _slots["__pydantic_fields_set__"].__set__
_set_extra: Final = _slots["__pydantic_extra__"].__set__
_set_private: Final = _slots["__pydantic_private__"].__set__
_T = TypeVar("_T", bound=BaseModel)


def trusted(model: type[_T], values: dict[str, Any], given: set[str]) -> _T:
    """
    Make an instance from values that are validated; a fraction of pydantic's own time.

    Args:
        model: Its class.
        values: A value for every field.
        given: Names of the fields that are not left at their defaults.
    """
    made = _new(model)
    _set_values(made, values)
    _set_given(made, given)
    _set_extra(made, None)
    _set_private(made, None)
    return made


def _filled(model: type[_T], values: dict[str, Any], unset: dict[str, Any]) -> _T:
    return trusted(model, {**unset, **values}, set(values))


def _set_fields(struct: Any) -> dict[str, Any]:
    return {k: v for k, v in msgspec.structs.asdict(struct).items() if v is not msgspec.UNSET}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {k: v for k, v in value.__dict__.items() if v is not None}
    return value


def _to_utc_text(value: Any) -> str:
    try:
        return utc_text(read_instant(value))
    except ValueError as exc:
        raise InvalidEventError(f"timestamp: {exc}", field="timestamp") from None


def _is_utc_text(value: Any) -> bool:
    return type(value) is str and value[-1] == "Z" and value[10] == "T"


class _Attributes(Mapping[str, Any]):
    """The fields of a struct, as a mapping."""

    __slots__ = ("_struct",)

    def __init__(self, struct: msgspec.Struct) -> None:
        self._struct = struct

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self._struct, name)
        except AttributeError:
            raise KeyError(name) from None

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return a field, or the default where the struct has none of this name."""
        return getattr(self._struct, key, default)  # a tenth of the time of an error

    def __iter__(self) -> Any:
        return iter(self._struct.__struct_fields__)

    def __len__(self) -> int:
        return len(self._struct.__struct_fields__)


_time_json: Final = msgspec.json.Encoder().encode


def utc_text(moment: datetime) -> str:
    """Return ISO 8601 text of an aware UTC datetime, ending in Z."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return _time_json(moment)[1:-1].decode()  # a third of the time of `isoformat`


def _dump(model: BaseModel) -> bytes:
    return model.model_dump_json(by_alias=True).encode()


def _wrong_class(payload: BaseModel, model: type[BaseModel]) -> InvalidEventError:
    return InvalidEventError(f"expected a {model.__name__}, got a {type(payload).__name__}")


def codec_of(model: type[BaseModel] | None) -> Codec:
    """Return the codec of a model; None stands for any JSON object."""
    if model is None:
        return FreeCodec()
    if issubclass(model, ObservabilityEvent):
        return EventCodec(model)
    return ModelCodec(model)

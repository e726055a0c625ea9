"""How payloads of the three kinds are validated and written: events, other models, free objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import msgspec
from pydantic import BaseModel

from spile.spi import InvalidEventError
from spile.topics._fast import make_struct, struct_of
from spile.topics._ids import uuid7_text
from spile.topics._json import json_encoder
from spile.topics.events._base import SCHEMA_VERSION, ObservabilityEvent, nest

_UUID_LENGTH: Final = 36


class Codec(Protocol):
    """Writes and reads the payloads of one event type."""

    fast: bool

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Return the JSON, and the validated top-level values; values may be texts or typed."""
        ...

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Return the typed payload; errors are InvalidEventError, ValidationError or msgspec's."""
        ...


def encode(value: object) -> bytes:
    """
    Encode a payload as JSON.

    Raises:
        InvalidEventError: It holds what JSON cannot.
    """
    try:
        return json_encoder.encode(value)
    except NotImplementedError as exc:
        raise InvalidEventError(f"payload holds a {exc}, which is no JSON value") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidEventError(f"payload is no JSON value: {exc}") from None


def _as_json(data: bytes | msgspec.Raw | Mapping[str, Any]) -> bytes:
    return encode(data) if isinstance(data, Mapping) else bytes(data)


def _is_accepted(decoder: msgspec.json.Decoder[Any] | None, data: bytes) -> bool:
    if decoder is None:
        return False
    try:
        decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class FreeCodec:
    """Payloads without a model: any JSON object."""

    fast = True

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Write it as it is; a model is written as pydantic does."""
        if isinstance(payload, BaseModel):
            payload = cast("dict[str, Any]", payload.model_dump(mode="json", by_alias=True))
        return encode(payload), payload

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an object."""
        return msgspec.json.decode(_as_json(data), type=dict[str, Any])


class ModelCodec:
    """Payloads with a pydantic model of the user's; always validated strictly, as JSON."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        struct = struct_of(model)
        self._decoder = None if struct is None else msgspec.json.Decoder(struct)
        self.fast = struct is not None

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Validate a mapping or an instance, and write it with its defaults."""
        if isinstance(payload, BaseModel):
            if not isinstance(payload, self._model):
                raise _wrong_class(payload, self._model)
            raw = encode(payload.__dict__) if self.fast else _dump(payload)
        else:
            raw = encode(payload)
        if self._decoder is not None:
            try:
                value = self._decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                return encode(value), _Attributes(value)
        model = self._model.model_validate_json(raw, strict=True)
        return _dump(model), model.__dict__

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an instance of the model."""
        return self._model.model_validate_json(_as_json(data), strict=True)


class EventCodec:
    """Observability events: flat in Python, nested on the wire."""

    def __init__(self, model: type[ObservabilityEvent]) -> None:
        self._model = model
        self._type = str(model.model_fields["event_type"].default)
        self._category = str(model.model_fields["event_category"].default)
        common = {k: f for k, f in model.model_fields.items() if k in model.COMMON}
        own = {k: f for k, f in model.model_fields.items() if k not in model.COMMON}
        payload = make_struct(f"{model.__name__}Payload", own, omit_none=True)
        struct = make_struct(model.__name__, common, {"payload": payload}, omit_none=True)
        self._decoder = msgspec.json.Decoder(struct)
        self.fast = True

    def write(self, payload: BaseModel | Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
        """Validate a mapping (nested or flat) or an instance, and write it nested."""
        if isinstance(payload, BaseModel):
            if not isinstance(payload, self._model):
                raise _wrong_class(payload, self._model)
            payload = payload.__dict__
        nested = self._complete(payload)
        if nested is not None:
            raw = encode(nested)
            if _is_accepted(self._decoder, raw):
                return raw, nested
        raw = encode(payload)
        nested = self._model.parse(raw).model_dump(mode="json")
        return encode(nested), nested

    def _complete(self, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        if "payload" in payload:
            nested = dict(payload)
        else:
            nested = nest(payload, self._model.COMMON)
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

    def read(self, data: bytes | msgspec.Raw | Mapping[str, Any]) -> Any:
        """Read an instance of the model, nested or flat."""
        return self._model.parse(data if isinstance(data, Mapping) else bytes(data))


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

    def __iter__(self) -> Any:
        return iter(self._struct.__struct_fields__)

    def __len__(self) -> int:
        return len(self._struct.__struct_fields__)


def utc_text(moment: datetime) -> str:
    """Return ISO 8601 text of an aware UTC datetime, ending in Z."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


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

"""The payload of one event type: validated strictly, encoded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeGuard, cast
from uuid import UUID

import msgspec
from pydantic import BaseModel, ValidationError

from spile.spi import InvalidEventError, MessageTooLargeError, UndecodableError
from spile.topics._event_names import upper_snake
from spile.topics._ids import correlation_uuid
from spile.topics._json import is_deeper
from spile.topics._limits import MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES, MAX_RECORD_BYTES
from spile.topics._upcasting import Upcast, Upcasts
from spile.topics.events.observability._base import ObservabilityEvent, explain
from spile.topics.events.observability._upcasting import upcast
from spile.topics.payloads._codec import (
    ModelCodec,
    codec_of,
    encode,
    is_at_end_of_time,
    utc_text,
)
from spile.topics.payloads._envelope import envelope_decoder, is_event_type

_UUID_LENGTH: Final = 36


def stated_type(payload: BaseModel | Mapping[str, Any]) -> str | None:
    """
    Return the event type that a payload says it has, in UPPER_SNAKE; None when it says none.

    It stands in `event_type`, or in the `event` of telemetry.
    """
    values = payload.__dict__ if isinstance(payload, BaseModel) else payload
    value: object = values.get("event_type")
    if value is None:
        value = values.get("event")
    return upper_snake(value) if isinstance(value, str) else None


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """
    A payload that is ready to be sent.

    Attributes:
        payload_json: The payload, encoded.
        event_id: The payload's own event id, for envelope and header; None when it has none.
        correlation_id: Its own correlation id, likewise.
        causation_id: Its own causation id, likewise.
        timestamp: Its own time, ISO 8601 in UTC, likewise.
        key: What the record is keyed by; None when the payload does not say.
        trace_id: Its own trace id, as it stands there: 32 hexadecimal digits if it is W3C's.
        span_id: Its own span id, likewise with 16.
    """

    payload_json: bytes
    event_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    timestamp: str | None = None
    key: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


class EventContract:
    """
    What the payload of one event type must be.

    Args:
        event_type: UPPER_SNAKE_CASE.
        model: The payload's model; None for any JSON object. A model is validated strictly,
            whatever its own configuration says.
        schema_version: Version of the payload's schema, `major.minor.patch`.
        key: Names of the fields that key the record; the first that is set is taken. A dot leads
            into a nested value.
        upcasts: The steps from older versions to this one. With them a payload of any other
            version is refused; without them every older minor of the same major is read as it is,
            since a minor version only adds.
        correlation: Names of the fields whose text makes the correlation id (`correlation_uuid`)
            where a model's payload has none of its own; the first that is set is taken.

    Raises:
        InvalidEventError: The event type is not UPPER_SNAKE_CASE.
        ConfigurationError: The schema version is none, or the upcasts do not lead to it.
    """

    __slots__ = (
        "_codec",
        "_correlation",
        "_is_event",
        "_key",
        "_may_overflow",
        "_upcasts",
        "_whole",
        "event_type",
        "has_fast_path",
        "key",
        "model",
        "schema_version",
    )

    def __init__(
        self,
        event_type: str,
        model: type[BaseModel] | None = None,
        *,
        schema_version: str = "1.0.0",
        key: Sequence[str] = (),
        upcasts: Sequence[Upcast] = (),
        correlation: Sequence[str] = (),
    ) -> None:
        if not is_event_type(event_type):
            raise InvalidEventError(
                f"event type {event_type[:80]!r} is not UPPER_SNAKE_CASE, "
                f"write {upper_snake(event_type)[:80]!r}",
                event_type=event_type,
                field="event_type",
            )
        self.event_type = event_type
        self.model = model
        self.schema_version = schema_version
        self.key = tuple(key)
        self._key = _places(key)
        self._correlation = _places(correlation)
        self._codec = codec_of(model)
        self._upcasts = Upcasts(upcasts, schema_version)
        self._is_event = model is not None and issubclass(model, ObservabilityEvent)
        self.has_fast_path = self._codec.fast
        struct = self._codec.struct
        self._whole = None if struct is None else envelope_decoder(struct)
        may_overflow: Callable[[bytes], bool] | None = None
        if isinstance(self._codec, ModelCodec) and self._codec.holds_times:
            may_overflow = self._codec.may_overflow
        self._may_overflow = may_overflow

    def __repr__(self) -> str:
        name = self.model.__name__ if self.model is not None else None
        return f"EventContract({self.event_type!r}, {name}, schema_version={self.schema_version!r})"

    def keyed(self, key: Sequence[str]) -> EventContract:
        """Return this contract with a key, unless it has one of its own."""
        if self.key or not key:
            return self
        made = copy.copy(self)
        made.key = tuple(key)
        made._key = _places(key)  # noqa: SLF001 - of the same class
        return made

    def prepare(self, payload: BaseModel | Mapping[str, Any]) -> Prepared:
        """
        Validate a payload and encode it.

        Args:
            payload: An instance of the model, or a mapping that is read as JSON.

        Raises:
            InvalidEventError: The payload breaks the contract; names field and event type.
            MessageTooLargeError: It has more than `MAX_PAYLOAD_BYTES` when encoded.
        """
        # Callers without a type checker pass lists and texts; the exact types are the quick way.
        kind: Any = type(payload)
        if kind is not dict and kind is not self.model and not _is_readable(payload):
            raise self._invalid(f"expected an object or a model, got {type(payload).__name__}")
        try:
            data, values = self._codec.write(payload)
        except ValidationError as exc:
            raise self._renamed(explain(exc, cast("type[BaseModel]", self.model))) from None
        except InvalidEventError as exc:
            raise self._renamed(exc) from None
        if len(data) > MAX_PAYLOAD_BYTES:
            raise MessageTooLargeError(
                f"{self.event_type}: payload has {len(data)} bytes, limit {MAX_PAYLOAD_BYTES}",
                size_bytes=len(data),
                limit_bytes=MAX_PAYLOAD_BYTES,
                event_type=self.event_type,
            )
        if is_deeper(data, MAX_JSON_DEPTH):
            self._check_depth(data)
        if self._is_event:
            return self._prepared_event(data, values)
        return self._prepared(data, values)

    def _check_depth(self, data: bytes) -> None:
        if not self._is_event:
            raise self._invalid(f"payload is nested deeper than {MAX_JSON_DEPTH} levels")
        try:
            cast("type[ObservabilityEvent]", self.model).parse(data)
        except InvalidEventError as exc:
            raise self._renamed(exc) from None

    def _prepared_event(self, data: bytes, values: Mapping[str, Any]) -> Prepared:
        get = values.get
        given: Any = values["metadata"]
        metadata = cast("dict[str, Any]", given if type(given) is dict else given.__dict__)
        correlation_id = _id_text(metadata.get("correlation_id"))
        key = get("session_id") or get("workflow_id") or get("agent_id")
        return Prepared(
            data,
            _id_text(values["event_id"]),
            correlation_id,
            None,
            values["timestamp"],
            correlation_id if key is None else _id_text(key),
            metadata.get("trace_id"),
            metadata.get("span_id"),
        )

    def _prepared(self, data: bytes, values: Mapping[str, Any]) -> Prepared:
        key = _first(values, self._key)
        if self.model is None:
            return Prepared(data, key=key)
        timestamp = values.get("timestamp")
        correlation_id = _own_id(values.get("correlation_id"))
        if correlation_id is None and (text := _first(values, self._correlation)) is not None:
            correlation_id = str(correlation_uuid(text))
        return Prepared(
            data,
            _own_id(values.get("event_id")),
            correlation_id,
            _own_id(values.get("causation_id")),
            _own_time(timestamp),
            key,
        )

    @property
    def readable(self) -> str:
        """The schema versions that can be read, in words."""
        if self._upcasts:
            return " and ".join(self._upcasts.known)
        return f"up to {self.schema_version} of the same major"

    def reads(self, version: str) -> bool:
        """Say whether payloads of a schema version can be read, as they are or upcast."""
        return self._upcasts.reads(version)

    def _is_old(self, version: str | None) -> TypeGuard[str]:
        return (
            version is not None and version != self.schema_version and self._upcasts.is_old(version)
        )

    def upcast(self, payload_json: bytes | msgspec.Raw, version: str | None) -> bytes:
        """
        Return the JSON of a payload as the newest version has it; not validated.

        Raises:
            UndecodableError: There is no way from this version, or the payload is no JSON object.
        """
        if not self._upcasts:
            return bytes(payload_json)
        stated = version or self.schema_version
        return self._read(lambda data: encode(self._newest(data, stated)), payload_json)

    def decode(
        self,
        payload_json: bytes | msgspec.Raw | Mapping[str, Any],
        version: str | None = None,
    ) -> Any:
        """
        Read a payload: an instance of the model, or a dict where there is no model.

        Args:
            payload_json: The payload.
            version: Its schema version, as the header states it; the newest by default. What is
                older is upcast first.

        Raises:
            UndecodableError: It breaks the contract; names field and event type.
        """
        if self._is_old(version):
            return self._read(
                lambda data: self._codec.read(self._newest(data, version)), payload_json
            )
        return self._read(self._codec.read, payload_json)

    def _newest(
        self, payload: bytes | msgspec.Raw | Mapping[str, Any], version: str
    ) -> dict[str, Any]:
        if not isinstance(payload, Mapping):
            payload = msgspec.json.decode(payload, type=dict[str, Any])
        if self._is_event:
            payload = upcast(payload)  # its own word on its version goes before the header's
        return self._upcasts.apply(payload, version) if self._is_old(version) else dict(payload)

    def view(self, payload_json: msgspec.Raw, version: str | None = None) -> Any:
        """
        Validate a payload and return it as the lightest object there is; an older one upcast.

        A struct whose attributes are the fields of the wire (an observability event's own fields
        stand under `payload`; fields that are not set are `msgspec.UNSET`), or a mapping where the
        contract has no model. Costs a fraction of `decode` and refuses exactly what that refuses.

        Raises:
            UndecodableError: It breaks the contract; names field and event type.
        """
        if self._is_old(version):
            payload_json = msgspec.Raw(self.upcast(payload_json, version))
        return self._read(self._codec.view, payload_json)

    def read_record(self, value: bytes) -> Any:
        """
        Read envelope and payload in one pass, where that is safe.

        Returns:
            What has the attributes of `Envelope`, with the payload as `view` returns it; None when
            the slower way must decide: no fast path, many brackets, or something is wrong.
        """
        decoder = self._whole
        if (
            decoder is None
            or len(value) > MAX_RECORD_BYTES
            or value.count(b"{") + value.count(b"[") > MAX_JSON_DEPTH
            or (self._may_overflow is not None and self._may_overflow(value))
        ):
            return None
        try:
            read = decoder.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if read.event_type != self.event_type:
            return None
        return None if self._is_event and is_at_end_of_time(read.payload) else read

    def _read(self, read: Callable[[Any], Any], payload_json: Any) -> Any:
        try:
            return read(payload_json)
        except ValidationError as exc:
            problem = explain(exc, cast("type[BaseModel]", self.model))
        except InvalidEventError as exc:
            problem = exc
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            problem = InvalidEventError(f"payload is no JSON object: {exc}")
        raise UndecodableError(f"{self.event_type}: {problem}", field=problem.field)

    def _invalid(self, why: str, field: str | None = None) -> InvalidEventError:
        return InvalidEventError(
            f"{self.event_type}: {why}", event_type=self.event_type, field=field
        )

    def _renamed(self, exc: InvalidEventError) -> InvalidEventError:
        return self._invalid(str(exc), exc.field)


def _places(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split(".")) for name in names)


def _id_text(value: Any) -> str | None:
    """Return the canonical text of a value that is known to be a UUID."""
    if type(value) is str:
        return value.lower() if len(value) == _UUID_LENGTH else str(UUID(value))
    return None if value is None else str(value)


def _own_time(value: Any) -> str | None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    try:
        return utc_text(value)
    except OverflowError:
        return None


def _own_id(value: Any) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    if type(value) is not str or len(value) != _UUID_LENGTH:
        return None
    try:
        return str(UUID(value))
    except ValueError:
        return None


def _first(values: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> str | None:
    for path in paths:
        value: Any = values.get(path[0])
        for name in path[1:]:
            if isinstance(value, dict):
                value = cast("dict[str, Any]", value).get(name)
            else:
                value = getattr(value, name, None)
        if value is not None:
            return str(value)
    return None


def _is_readable(payload: Any) -> bool:
    return isinstance(payload, (BaseModel, Mapping))

"""What all observability events have in common, and how they stand on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from spile.spi import InvalidEventError
from spile.topics._ids import uuid7
from spile.topics._strict import Milliseconds, Share, Strict, now
from spile.topics._wire import Id, Instant, Wire
from spile.topics.events.observability._upcasting import (
    KNOWN_SCHEMA_VERSIONS,
    SCHEMA_VERSION,
    upcast,
)
from spile.topics.redaction import REDACTED, default_redactor, quotable

EMBEDDING_LENGTH: Final = 1536
"""Length of a semantic embedding."""

Embedding = Annotated[list[float], Field(min_length=EMBEDDING_LENGTH, max_length=EMBEDDING_LENGTH)]


class EventCategory(StrEnum):
    """The seven families of observability events; each has its topic."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    TOOL = "tool"
    MEMORY = "memory"
    COMMUNICATION = "communication"
    RECOVERY = "recovery"
    SYSTEM = "system"


_NEWEST: Final = cast("Any", Literal)[SCHEMA_VERSION]


def _newest_version(value: str) -> str:
    if value not in KNOWN_SCHEMA_VERSIONS:
        known = " and ".join(KNOWN_SCHEMA_VERSIONS)
        raise ValueError(f"unknown schema version, this release reads {known}")
    if value != SCHEMA_VERSION:
        raise ValueError(f"old schema version, this release writes {SCHEMA_VERSION}")
    return value


class _Strict(Strict, frozen=True):
    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class PerformanceMetrics(_Strict, frozen=True):
    """What an operation cost: milliseconds, megabytes, percent."""

    execution_time_ms: Milliseconds | None = None
    memory_usage_mb: Annotated[float, Field(ge=0)] | None = None
    cpu_usage_percent: Annotated[float, Field(ge=0, le=100)] | None = None


class EventMetadata(_Strict, frozen=True):
    """Where an event comes from and what it belongs to."""

    schema_version: Annotated[str, AfterValidator(_newest_version), Wire(_NEWEST)] = SCHEMA_VERSION
    correlation_id: Id | None = None
    source_service: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    sampling_probability: Share | None = None


class ObservabilityEvent(_Strict, frozen=True):
    """
    Something that an agent did or that happened to it.

    Made with its own fields by keyword; on the wire those stand under `payload`. Reading accepts
    both forms. `event_id` is a UUIDv7 and `timestamp` the present unless given.
    """

    COMMON: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that every event has; all others stand under `payload`."""

    event_id: Id = Field(default_factory=uuid7)
    timestamp: Instant = Field(default_factory=now)
    event_type: str
    event_category: str
    workflow_id: Id | None = None
    agent_id: Id | None = None
    session_id: Id | None = None
    context_id: Id | None = None
    semantic_embedding: Embedding | None = None
    performance_metrics: PerformanceMetrics | None = None
    metadata: EventMetadata = Field(default_factory=EventMetadata)

    @property
    def payload(self) -> dict[str, Any]:
        """The event's own fields that are set, as they stand on the wire."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in self.COMMON and value is not None
        }

    @classmethod
    def parse(cls, data: bytes | str | Mapping[str, Any]) -> Self:
        """
        Read an event from JSON or from a mapping, nested or flat.

        On the base class, `event_type` says which event it is.

        Raises:
            InvalidEventError: The data is no JSON object, or breaks the event's contract; the
                error names the field.
        """
        mapping = _read_mapping(data)
        model = cls
        if cls.model_fields["event_type"].is_required():
            model = cast("type[Self]", _model_of(mapping.get("event_type")))
        try:
            return model.model_validate(mapping)
        except ValidationError as exc:
            raise explain(exc, model) from None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = upcast(cast("dict[str, Any]", data))
        if "payload" not in data:
            return data
        flat = dict(data)
        payload = flat.pop("payload")
        if not isinstance(payload, dict):
            raise ValueError("payload must be an object")  # noqa: TRY004 - pydantic wants ValueError
        for name, value in cast("dict[str, Any]", payload).items():
            if name in cls.COMMON:
                raise ValueError(f"{name} is a common field, it stands beside the payload")
            if name in flat:
                raise ValueError(f"{quotable(name)} stands twice, in the payload and beside it")
            flat[name] = value
        return flat

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return nest(handler(self), self.COMMON)


ObservabilityEvent.COMMON = frozenset(ObservabilityEvent.model_fields)
_EVENTS: Final[dict[str, type[ObservabilityEvent]]] = {}


def nest(flat: Mapping[str, Any], common: frozenset[str]) -> dict[str, Any]:
    """Return the wire form of flat fields: unset ones left out, own ones under `payload`."""
    nested: dict[str, Any] = {}
    payload: dict[str, Any] = {}
    for name, value in flat.items():
        if value is not None:
            (nested if name in common else payload)[name] = value
    nested["payload"] = payload
    return nested


def register_events(models: Mapping[str, type[ObservabilityEvent]]) -> None:
    """Make event models known to `ObservabilityEvent.parse`."""
    _EVENTS.update(models)


def _model_of(event_type: object) -> type[ObservabilityEvent]:
    if isinstance(event_type, str) and event_type in _EVENTS:
        return _EVENTS[event_type]
    shown = quotable(repr(event_type))
    raise InvalidEventError(
        f"event_type: {shown} is no observability event, known are {', '.join(_EVENTS)}",
        event_type=quotable(event_type) if isinstance(event_type, str) else None,
        field="event_type",
    )


def _read_mapping(data: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    value: object = data
    if isinstance(data, (bytes, str)):
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
            raise InvalidEventError(f"the event is no JSON: {exc}") from None
    if not isinstance(value, Mapping):
        raise InvalidEventError(f"the event must be an object, got {type(value).__name__}")
    return dict(cast("Mapping[str, Any]", value))


def explain(exc: ValidationError, model: type[BaseModel]) -> InvalidEventError:
    """
    Turn pydantic's verdict into an error that names event type and field, never a value.

    Names that nobody declared are the sender's, and may be secrets themselves.
    """
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    first = errors[0]
    path = [str(part) for part in first["loc"]]
    if issubclass(model, ObservabilityEvent) and path and path[0] not in model.COMMON:
        path.insert(0, "payload")
    field = quotable(".".join(path)) or "payload"
    name = model.__name__
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        reason = default_redactor().scrub(reason)
    if not reason.startswith(REDACTED):
        reason = f"{reason[:1].lower()}{reason[1:]}"
    message = f"{name}: {field}: {reason}"
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    return InvalidEventError(message, event_type=name, field=field)

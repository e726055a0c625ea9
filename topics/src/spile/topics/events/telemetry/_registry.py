"""The telemetry events that subsystems bring themselves."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import create_model

from spile.spi import ConfigurationError, InvalidEventError
from spile.topics._event_names import upper_snake
from spile.topics.events.telemetry._events import TELEMETRY_MODELS, TelemetryEvent
from spile.topics.events.telemetry._payloads import TelemetryPayload
from spile.topics.redaction import quotable

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*\.[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_SHOWN: Final = 80
_MAX_NAME: Final = 120
_models: Final[dict[str, type[TelemetryEvent]]] = dict(TELEMETRY_MODELS)
_reserved: Final[set[str]] = set()


def register_telemetry(event: str, payload: type[TelemetryPayload]) -> type[TelemetryEvent]:
    """
    Make a subsystem's event known to this process: `parse` reads it from now on.

    Registering the same again returns the same model. `telemetry_topic` makes the topic for it.

    Args:
        event: `module.action`, both snake_case, such as `memory.entry_stored`.
        payload: What the event says.

    Returns:
        The event's model.

    Raises:
        ConfigurationError: The name is no `module.action`, another payload has it already, or its
            UPPER_SNAKE form is another event's.
    """
    if len(event) > _MAX_NAME or not _NAME.fullmatch(event):
        raise ConfigurationError(
            f"telemetry event {event[:_SHOWN]!r} is no module.action in snake_case, "
            f"such as memory.entry_stored"
        )
    if (known := _models.get(event)) is not None:
        if known.model_fields["payload"].annotation is not payload:
            raise ConfigurationError(f"telemetry event {event!r} has another payload already")
        return known
    for other in _models:
        if upper_snake(other) == upper_snake(event):
            raise ConfigurationError(
                f"telemetry events {event!r} and {other!r} are both {upper_snake(event)}"
            )
    if upper_snake(event) in _reserved:
        raise ConfigurationError(
            f"telemetry event {event!r} would be {upper_snake(event)}, which is another event"
        )
    model = _made(event, payload)
    _models[event] = model
    return model


def reserve_event_types(types: Iterable[str]) -> None:
    """Keep event types, in UPPER_SNAKE, from being registered: those of the other families."""
    _reserved.update(types)


def _made(event: str, payload: type[TelemetryPayload]) -> type[TelemetryEvent]:
    name = upper_snake(event).title().replace("_", "") + "Event"
    fields: dict[str, Any] = {"event": (Literal[event], event), "payload": (payload, ...)}
    return create_model(
        name,
        __base__=TelemetryEvent,
        __module__=payload.__module__,
        __doc__=f"`{event}`.",
        **fields,
    )


def telemetry_models() -> tuple[type[TelemetryEvent], ...]:
    """Return the models of the core events and of all that are registered."""
    return tuple(_models.values())


def telemetry_model(event: str) -> type[TelemetryEvent]:
    """
    Return the model of a telemetry event, a core one or a registered one.

    Args:
        event: `module.action`, or its UPPER_SNAKE form.

    Raises:
        InvalidEventError: Nobody registered it; names what comes close.
    """
    if (model := _models.get(event)) is not None:
        return model
    for name, model in _models.items():
        if upper_snake(name) == event:
            return model
    near = difflib.get_close_matches(event[:_MAX_NAME], _models, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(_models)};"
    raise InvalidEventError(
        f"event: {quotable(event)!r} is no telemetry event, {hint} "
        f"register_telemetry(event, payload) makes a new one known",
        event_type=quotable(event),
        field="event",
    )

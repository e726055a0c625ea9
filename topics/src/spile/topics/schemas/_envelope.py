"""The JSON Schema of the envelope and of the headers of a record."""

from __future__ import annotations

from typing import Final

from spile.topics.schemas._generate import INSTANT, UUID, JsonSchema

ENVELOPE_VERSION: Final = "1.0.0"
"""Version of the envelope."""

_EVENT_TYPE: Final = "^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$"


def _text(description: str, **more: object) -> JsonSchema:
    return {"type": "string", "description": description, **more}


def _uuid(description: str) -> JsonSchema:
    return {**UUID, "description": description}


def envelope_schema() -> JsonSchema:
    """Return the JSON Schema of an envelope; readers leave fields that it does not name alone."""
    return {
        "type": "object",
        "properties": {
            "event_id": _uuid("Stores know the event by it; a UUIDv7 when made here."),
            "event_type": _text("Name of the event.", pattern=_EVENT_TYPE),
            "correlation_id": _uuid("Shared by all events of one request, run or session."),
            "causation_id": _uuid("The event that caused this one."),
            "timestamp": {**INSTANT, "description": "When it happened."},
            "service": _text("Who published it.", minLength=1),
            "version": _text("Version of the topic.", minLength=1, default="v1"),
            "payload": {"type": "object", "description": "What happened, by its event type."},
            "metadata": {"type": "object", "description": "More facts."},
        },
        "required": [
            "event_id",
            "event_type",
            "correlation_id",
            "timestamp",
            "service",
            "payload",
        ],
    }

"""The JSON Schema of the envelope and of the headers of a record."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from spile.topics.schemas._generate import DIALECT, INSTANT, UUID, JsonSchema, definitions

ENVELOPE_VERSION: Final = "1.0.0"
"""Version of the envelope."""

CONTENT_TYPES: Final = (
    "application/json",
    "application/msgpack",
    "application/vnd.confluent.avro",
)
"""How the value of a record may be encoded; the header says which."""

_VERSION_FIELDS: Final = ("schema_version", "event_version")
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


def event_schema(event_type: str, model: type[BaseModel] | None) -> JsonSchema:
    """
    Return the JSON Schema of an envelope with the payload of one event type in it, for a registry.

    The fields that state a version may state any: as constants they would make every new minor
    version incompatible with the last one.

    Args:
        event_type: UPPER_SNAKE_CASE.
        model: The payload's model; None for any JSON object.
    """
    envelope = envelope_schema()
    properties: JsonSchema = {**envelope["properties"], "event_type": {"const": event_type}}
    if model is not None:
        properties["payload"] = {"$ref": f"#/$defs/{event_type}"}
        envelope["$defs"] = {
            name: _of_any_version(schema)
            for name, schema in definitions({event_type: model}).items()
        }
    return {"$schema": DIALECT, "title": event_type, **envelope, "properties": properties}


def _of_any_version(schema: JsonSchema) -> JsonSchema:
    properties: dict[str, JsonSchema] = schema.get("properties", {})
    freed = {
        name: {key: value for key, value in said.items() if key not in {"const", "enum"}}
        if name in _VERSION_FIELDS
        else said
        for name, said in properties.items()
    }
    return {**schema, "properties": freed} if freed else schema


def headers_schema() -> JsonSchema:
    """Return the JSON Schema of a record's headers, each as the text that it is on the wire."""
    number = {"type": "string", "pattern": "^[0-9]+$"}
    optional: dict[str, JsonSchema] = {
        "trace_id": _text("W3C trace.", pattern="^[0-9a-f]{32}$"),
        "span_id": _text("W3C span.", pattern="^[0-9a-f]{16}$"),
        "parent_span_id": _text("The span above.", pattern="^[0-9a-f]{16}$"),
        "traceparent": _text("W3C trace context, made of trace_id and span_id."),
        "operation_name": _text("What the publisher was doing."),
        "destination": _text("Whom it is for."),
        "routing_key": _text("How to route it."),
        "partition_key": _text("The record's key, where it is not that of the topic."),
        "priority": {"type": "string", "enum": ["low", "normal", "high", "critical"]},
        "retry_count": number,
        "max_retries": number,
        "ttl_seconds": number,
    }
    required: dict[str, JsonSchema] = {
        "content_type": _text("How the value is encoded.", enum=list(CONTENT_TYPES)),
        "correlation_id": _uuid("That of the envelope."),
        "message_id": _uuid("The envelope's event_id."),
        "timestamp": {**INSTANT, "description": "That of the envelope."},
        "source": _text("The publishing service.", minLength=1),
        "event_type": _text("That of the envelope.", pattern=_EVENT_TYPE),
        "schema_version": _text(
            "Version of the payload's schema.", pattern="^[0-9]+\\.[0-9]+\\.[0-9]+$"
        ),
    }
    return {
        "type": "object",
        "description": "Headers of a record: UTF-8 text; unknown ones are left alone.",
        "properties": {**required, **optional},
        "required": list(required),
    }

"""The catalogue as an AsyncAPI document: topics, messages, headers, how Kafka keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from spile.spi import SchemaError
from spile.topics import ENVIRONMENTS, Catalogue, EventContract, TopicSpec
from spile.topics.schemas._envelope import envelope_schema, headers_schema
from spile.topics.schemas._generate import JsonSchema, definitions, redirect

ASYNCAPI_VERSION: Final = "3.0.0"
"""Version of the AsyncAPI specification."""

_BINDING: Final = "0.5.0"
_SCHEMAS: Final = "#/components/schemas/"
_ENVELOPE: Final = "Envelope"
_HEADERS: Final = "RecordHeaders"
_DEAD_LETTER: Final = "DEAD_LETTER"
_CORRELATION: Final = "the correlation id"


def asyncapi(catalogue: Catalogue, *, environments: Sequence[str] = ENVIRONMENTS) -> dict[str, Any]:
    """
    Return the AsyncAPI 3.0 document of a catalogue.

    Every topic and every dead letter queue is a channel whose address begins with the parameter
    `environment`; every channel can be sent to and received from. Message payloads are envelopes
    around the schema of the event.

    Args:
        catalogue: Its templates are filled in with its services.
        environments: The values of the parameter; the first is the default.

    Raises:
        SchemaError: A model of the catalogue cannot be said in JSON Schema.
    """
    topics = [*catalogue, *(spec.dlq for spec in catalogue)]
    names = _message_names(catalogue)
    channels = {spec.name: _channel(spec, names, environments) for spec in topics}
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "id": "urn:spile:catalogue",
        "info": {
            "title": "spile",
            "version": version("spile-topics"),
            "description": "The topics of the event bus and the events on them.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": dict(_operations(channels)),
        "components": {
            "messages": {
                **dict(_messages(catalogue, names)),
                _DEAD_LETTER: _dead_letter(),
            },
            "schemas": _schemas(names),
        },
    }


def _message_names(catalogue: Catalogue) -> dict[tuple[str, type[BaseModel] | None], str]:
    """Name the messages: by event type, and by major version where a type has several models."""
    found: dict[tuple[str, type[BaseModel] | None], str] = {}
    for spec in catalogue:
        for event_type, contract in spec.contracts.items():
            key = (event_type, contract.model)
            taken = event_type in found.values()
            name = f"{event_type}.{spec.name.rpartition('.')[2]}" if taken else event_type
            found.setdefault(key, name)
    return found


def _channel(
    spec: TopicSpec,
    names: Mapping[tuple[str, type[BaseModel] | None], str],
    environments: Sequence[str],
) -> dict[str, Any]:
    held = {
        names[event_type, contract.model]: None for event_type, contract in spec.contracts.items()
    }
    is_dlq = not held and spec.name.endswith(".dlq")
    listed = [_DEAD_LETTER] if is_dlq else list(held)
    return {
        "address": f"{{environment}}.{spec.name}",
        "title": spec.name,
        "description": _described(spec, is_dlq=is_dlq),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in listed},
        "parameters": {
            "environment": {
                "description": "Where the events live.",
                "enum": list(environments),
                "default": environments[0],
            }
        },
        "bindings": {"kafka": _topic_binding(spec)},
        "tags": [{"name": spec.owner}],
    }


def _described(spec: TopicSpec, *, is_dlq: bool) -> str:
    if is_dlq:
        return f"What could not be handled of {spec.name.removesuffix('.dlq')}, byte for byte."
    return f"Owned by {spec.owner}, keyed by {spec.key or _CORRELATION}."


def _topic_binding(spec: TopicSpec) -> dict[str, Any]:
    kept = {"retention.ms": spec.retention // timedelta(milliseconds=1)}
    return {
        "partitions": spec.partitions,
        "replicas": spec.replication,
        "topicConfiguration": {
            "cleanup.policy": spec.cleanup.split(","),
            **(kept if "delete" in spec.cleanup else {}),
            "max.message.bytes": spec.max_message_bytes,
            "min.insync.replicas": spec.min_insync_replicas,
        },
        "bindingVersion": _BINDING,
    }


def _operations(channels: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, channel in channels.items():
        for verb, action in (("publish", "send"), ("consume", "receive")):
            yield (
                f"{verb}.{name}",
                {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "messages": [
                        {"$ref": f"#/channels/{name}/messages/{message}"}
                        for message in cast("dict[str, Any]", channel["messages"])
                    ],
                },
            )


def _messages(
    catalogue: Catalogue, names: Mapping[tuple[str, type[BaseModel] | None], str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for spec in catalogue:
        for event_type, contract in spec.contracts.items():
            name = names[event_type, contract.model]
            yield name, _message(name, contract, spec)


def _message(name: str, contract: EventContract, spec: TopicSpec) -> dict[str, Any]:
    payload: JsonSchema = {"event_type": {"const": contract.event_type}}
    if contract.model is not None:
        payload["payload"] = {"$ref": _SCHEMAS + name}
    said = {
        "event_type": {"const": contract.event_type},
        "schema_version": {"const": contract.schema_version},
    }
    doc = (contract.model.__doc__ or "").strip() if contract.model is not None else ""
    return {
        "name": contract.event_type,
        "title": contract.event_type,
        "summary": doc.partition("\n")[0] or "Any JSON object.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "allOf": [{"$ref": _SCHEMAS + _HEADERS}, {"properties": said}],
        },
        "payload": {
            "type": "object",
            "allOf": [{"$ref": _SCHEMAS + _ENVELOPE}, {"properties": payload}],
        },
        "correlationId": {"location": "$message.header#/correlation_id"},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": f"partition_key, else the first that is set of "
                    f"{', '.join(filter(None, [spec.key, 'correlation_id']))}; UTF-8.",
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _dead_letter() -> dict[str, Any]:
    facts = {
        "original-topic": "Full name of the topic.",
        "original-partition": "Its partition.",
        "original-offset": "The record's offset.",
        "original-timestamp": "The record's time in milliseconds.",
        "consumer-group": "Who failed.",
        "attempts": "How often it was tried.",
        "error-type": "Class of the last error.",
        "error-message": "What it said, at most 1 KiB.",
        "error-digest": "SHA-256 of its type and frames.",
        "first-failure": "ISO 8601, UTC.",
        "last-failure": "ISO 8601, UTC.",
    }
    return {
        "name": _DEAD_LETTER,
        "title": _DEAD_LETTER,
        "summary": "A record that could not be handled, key, value and headers as they came.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": {
                f"x-spile-dlq-{name}": {"type": "string", "description": text}
                for name, text in facts.items()
            },
            "required": [f"x-spile-dlq-{name}" for name in facts],
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "That of the record."},
                "bindingVersion": _BINDING,
            }
        },
    }


def _schemas(names: Mapping[tuple[str, type[BaseModel] | None], str]) -> dict[str, JsonSchema]:
    models = {name: model for (_, model), name in names.items() if model is not None}
    try:
        made = definitions(models)
    except PydanticInvalidForJsonSchema as exc:
        raise SchemaError(f"a model of the catalogue has no JSON Schema: {exc.message}") from None
    targets = {f"#/$defs/{name}": _SCHEMAS + name for name in made}
    moved: dict[str, JsonSchema] = redirect(made, targets)
    return {**moved, _ENVELOPE: envelope_schema(), _HEADERS: headers_schema()}

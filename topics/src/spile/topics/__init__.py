"""
Topic names, the topic catalogue, envelopes, and what the payloads of events must be.

The event models are in `spile.topics.events`.
"""

from spile.topics._event_names import TICK, upper_snake
from spile.topics._ids import correlation_uuid, parse_uuid, uuid7, uuid7_text
from spile.topics._json import JsonAny, JsonArray, JsonObject
from spile.topics._limits import (
    MAX_DLQ_MESSAGE_BYTES,
    MAX_ENVELOPE_DEPTH,
    MAX_JSON_DEPTH,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORD_BYTES,
    MAX_TOPIC_LENGTH,
)
from spile.topics._upcasting import Upcast
from spile.topics._wire import Id, Instant, Wire, read_instant
from spile.topics.catalogue import (
    ENVIRONMENTS,
    TELEMETRY_SOURCES,
    Catalogue,
    ConsumerGroup,
    Difference,
    Plan,
    Route,
    TopicKind,
    TopicName,
    TopicSetup,
    TopicSpec,
    TopicState,
    default_catalogue,
    kebab,
    plan,
    telemetry_topic,
    topic_setup,
)
from spile.topics.payloads import (
    Envelope,
    EventContract,
    Prepared,
    decode_envelope,
    encode_envelope,
    stated_type,
)

__all__ = [
    "ENVIRONMENTS",
    "MAX_DLQ_MESSAGE_BYTES",
    "MAX_ENVELOPE_DEPTH",
    "MAX_JSON_DEPTH",
    "MAX_MESSAGE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_TOPIC_LENGTH",
    "TELEMETRY_SOURCES",
    "TICK",
    "Catalogue",
    "ConsumerGroup",
    "Difference",
    "Envelope",
    "EventContract",
    "Id",
    "Instant",
    "JsonAny",
    "JsonArray",
    "JsonObject",
    "Plan",
    "Prepared",
    "Route",
    "TopicKind",
    "TopicName",
    "TopicSetup",
    "TopicSpec",
    "TopicState",
    "Upcast",
    "Wire",
    "correlation_uuid",
    "decode_envelope",
    "default_catalogue",
    "encode_envelope",
    "kebab",
    "parse_uuid",
    "plan",
    "read_instant",
    "stated_type",
    "telemetry_topic",
    "topic_setup",
    "upper_snake",
    "uuid7",
    "uuid7_text",
]

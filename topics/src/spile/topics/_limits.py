"""The sizes that the bus accepts; each layer leaves room for what the next one adds."""

from __future__ import annotations

from typing import Final

MAX_PAYLOAD_BYTES: Final = 1_000_000
"""Largest encoded payload of one event."""

MAX_RECORD_BYTES: Final = 1_600_000
"""Largest Kafka record: envelope, key and headers."""

MAX_MESSAGE_BYTES: Final = 2_000_000
"""`max.message.bytes` of a topic."""

MAX_DLQ_MESSAGE_BYTES: Final = 2_200_000
"""`max.message.bytes` of a DLQ or retry topic: room for the headers that are added."""

MAX_JSON_DEPTH: Final = 32
"""Deepest nesting of JSON that a caller defines."""

MAX_ENVELOPE_DEPTH: Final = MAX_JSON_DEPTH + 3
"""Deepest nesting of a whole envelope: caller's JSON in a payload in an event in the envelope."""

MAX_TOPIC_LENGTH: Final = 249
"""Longest topic name, in characters. Source: Kafka, `Topic.MAX_NAME_LENGTH`."""

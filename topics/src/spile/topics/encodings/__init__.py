"""
How events become bytes, and bytes events: JSON, MessagePack, Avro, compressed or not.

    data, metadata = serialize_for_storage(event)
    event = deserialize(data)

Whatever the bytes are, reading ends with the event or with one `UndecodableError`, in bounded
memory.
"""

from spile.topics.encodings._envelopes import json_to_message_pack, message_pack_to_json
from spile.topics.encodings._serializer import (
    DEFAULT_PAYLOAD_BYTES,
    MAX_BATCH_BYTES,
    EventSerializer,
    SerializationFormat,
    deserialize,
    deserialize_from_storage,
    deserialize_from_stream,
    serialize_for_storage,
    serialize_for_stream,
)
from spile.topics.encodings.avro import (
    AvroSchema,
    avro_schema,
    avro_to_json,
    envelope_schema,
    json_to_avro,
)

__all__ = [
    "DEFAULT_PAYLOAD_BYTES",
    "MAX_BATCH_BYTES",
    "AvroSchema",
    "EventSerializer",
    "SerializationFormat",
    "avro_schema",
    "avro_to_json",
    "deserialize",
    "deserialize_from_storage",
    "deserialize_from_stream",
    "envelope_schema",
    "json_to_avro",
    "json_to_message_pack",
    "message_pack_to_json",
    "serialize_for_storage",
    "serialize_for_stream",
]

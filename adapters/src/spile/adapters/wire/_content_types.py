"""The media types of values, as the header `content_type` names them."""

from typing import Final

JSON: Final = b"application/json"
MESSAGE_PACK: Final = b"application/msgpack"
FRAMED: Final = b"application/vnd.confluent.avro"
"""Framed with a schema id; the registry says whether the schema is Avro or JSON Schema."""

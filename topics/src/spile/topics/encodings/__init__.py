"""How events become bytes: Avro, MessagePack, compressed or not, and back within bounds."""

from spile.topics.encodings._avro import AvroSchema, avro_to_json, json_to_avro
from spile.topics.encodings._avro_models import avro_schema, envelope_schema

__all__ = ["AvroSchema", "avro_schema", "avro_to_json", "envelope_schema", "json_to_avro"]

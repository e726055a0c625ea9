"""Avro: written by fastavro, read within bounds, and the schemas of our models."""

from spile.topics.encodings.avro._models import avro_schema, envelope_schema
from spile.topics.encodings.avro._schema import AvroSchema, avro_to_json, json_to_avro

__all__ = ["AvroSchema", "avro_schema", "avro_to_json", "envelope_schema", "json_to_avro"]

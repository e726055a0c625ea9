"""Avro: a schema that reads and writes within bounds, and its way to JSON and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Self

import msgspec

from spile.spi import InvalidEventError, SchemaError, UndecodableError
from spile.topics._json import is_deeper, json_encoder
from spile.topics._limits import MAX_ENVELOPE_DEPTH, MAX_RECORD_BYTES
from spile.topics.encodings.avro._reading import MAX_VALUES, PROBLEMS, Reader, reader_of
from spile.topics.encodings.avro._types import AvroType, SchemaReader
from spile.topics.encodings.avro._writing import MismatchError, Writer, load_fastavro

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Largest schema, as compact JSON."""


class AvroSchema:
    """
    A parsed Avro schema; made by `parse`.

    Values are what JSON has (dict, list, str, int, float, bool, None), and bytes. Of the logical
    types, `uuid` is a UUID, `timestamp-micros` and `timestamp-millis` are aware datetimes in UTC,
    and `json`, which is spile's, is any JSON value in a string; the rest is left as it is stored.
    Numbers are finite. One object may be used by several threads.

    Source: Apache Avro specification 1.12, "Binary encoding".
    """

    def __init__(self, definition: Any, root: AvroType) -> None:
        readers: dict[AvroType, Reader] = {}
        text_readers: dict[AvroType, Reader] = {}
        self._definition = definition
        self._root = root
        self._read = reader_of(root, readers)
        self._read_text = reader_of(root, text_readers, for_json=True)
        self._writer = Writer(root)

    @classmethod
    def parse(cls, schema: Mapping[str, Any] | list[Any] | str) -> Self:
        """
        Check a schema and make it ready.

        Args:
            schema: The schema, as JSON text or decoded; text that is no JSON is a type's name.

        Raises:
            SchemaError: It is no Avro schema, has more than 64 KiB, is recursive, is nested deeper
                than 32 levels, could have more than 10,000 values outside arrays and maps, has
                arrays of items that take no bytes, a name or symbol of more than 256 characters, or
                a default that is not of its type.
        """
        definition = _definition(schema)
        root = SchemaReader().read(definition)
        return cls(definition, root)

    @property
    def definition(self) -> Any:
        """The schema as decoded JSON; a copy."""
        return copy.deepcopy(self._definition)

    @property
    def name(self) -> str:
        """Full name of the record, enum or fixed; the kind of anything else."""
        return self._root.name or self._root.kind

    @cached_property
    def fingerprint(self) -> bytes:
        """
        The 8 bytes that stand for the schema in the single-object encoding.

        Names, order and types of the fields decide; logical types and defaults do not.

        Raises:
            SchemaError: fastavro refuses the schema: a logical type in it is wrong.
            ConfigurationError: The extra `avro` is not installed.

        Source: Apache Avro specification 1.12, "Schema Fingerprints".
        """
        tools = load_fastavro().schema
        try:
            canonical = tools.to_parsing_canonical_form(self._definition)
        except (tools.SchemaParseException, LookupError, TypeError, ValueError) as exc:
            raise SchemaError(f"{self.name} has no canonical form: {exc}") from None
        return bytes.fromhex(tools.fingerprint(canonical, "CRC-64-AVRO"))

    def __repr__(self) -> str:
        return f"AvroSchema({self.name})"

    def encode(self, value: Any) -> bytes:
        """
        Write a value.

        UUIDs and times may be given as text too, bytes as base64 text; a field with a default may
        be missing. In a union the first branch that takes the value is written.

        Raises:
            InvalidEventError: It is not of the schema; names the field, never a value.
            ConfigurationError: The extra `avro` is not installed.
        """
        try:
            return self._writer.write(value)
        except MismatchError as exc:
            raise self._mismatch(exc) from None

    def encode_json(self, data: bytes) -> bytes:
        """
        Write what stands in JSON; as `encode` of the decoded JSON, and faster.

        Raises:
            UndecodableError: The data is no JSON, too large or nested too deep.
            InvalidEventError: The JSON is not of the schema; names the field.
            ConfigurationError: The extra `avro` is not installed.
        """
        if len(data) > MAX_RECORD_BYTES or is_deeper(data, MAX_ENVELOPE_DEPTH):
            raise UndecodableError(
                f"expected JSON of at most {MAX_RECORD_BYTES} bytes and {MAX_ENVELOPE_DEPTH} levels"
            )
        try:
            return self._writer.write_json(data)
        except MismatchError as exc:
            raise self._mismatch(exc) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UndecodableError(f"expected JSON: {exc}") from None

    def _mismatch(self, exc: MismatchError) -> InvalidEventError:
        field = ".".join(reversed(exc.path))
        where = f"{field}: " if field else ""
        return InvalidEventError(f"{self.name}: {where}{exc}", field=field or None)

    def decode(self, data: bytes) -> Any:
        """
        Read a value.

        Args:
            data: At most `MAX_RECORD_BYTES`; every byte must belong to the value.

        Raises:
            UndecodableError: The bytes are no value of the schema, hold more than 100,000 items in
                an array or map or 300,000 values in all, or go on behind the value.
        """
        return self._decode(self._read, data)

    def decode_json(self, data: bytes) -> bytes:
        """
        Read a value and return it as JSON.

        Null stands for nothing where a field's default is null: such a field is left out.

        Raises:
            UndecodableError: As `decode`.
        """
        value = self._decode(self._read_text, data)
        try:
            return json_encoder.encode(value)
        except (TypeError, ValueError, RecursionError) as exc:
            raise UndecodableError(f"{self.name}: no JSON value: {exc}") from None

    def _decode(self, read: Reader, data: bytes) -> Any:
        if len(data) > MAX_RECORD_BYTES:
            raise UndecodableError(f"Avro: {len(data)} bytes, limit {MAX_RECORD_BYTES}")
        try:
            value, end = read(bytes(data), 0, [MAX_VALUES])
        except (*PROBLEMS, RecursionError) as exc:
            raise UndecodableError(f"{self.name}: {_why(exc)}") from None
        if end != len(data):
            raise UndecodableError(f"{self.name}: {len(data) - end} bytes stand behind the value")
        return value


def avro_to_json(schema: AvroSchema, data: bytes) -> bytes:
    """
    Return Avro bytes as JSON, by the writer's schema alone.

    A field that is null, and null by default, is left out.

    Raises:
        UndecodableError: The bytes are no value of the schema.
    """
    return schema.decode_json(data)


def json_to_avro(schema: AvroSchema, data: bytes) -> bytes:
    """
    Return JSON as Avro bytes, by the schema alone.

    Raises:
        UndecodableError: The data is no JSON, too large or nested too deep.
        InvalidEventError: The JSON is not of the schema; names the field.
        ConfigurationError: The extra `avro` is not installed.
    """
    return schema.encode_json(data)


def _definition(schema: object) -> Any:
    try:
        if not isinstance(schema, str):
            text = msgspec.json.encode(schema)
        elif schema.lstrip()[:1] in {"{", "[", '"'}:
            text = schema.encode()
        else:
            text = msgspec.json.encode(schema)
        if len(text) > MAX_SCHEMA_BYTES:
            raise SchemaError(f"the schema has {len(text)} bytes, limit {MAX_SCHEMA_BYTES}")
        return msgspec.json.decode(text)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise SchemaError(f"the schema is no JSON: {exc}") from None


def _why(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "a text is no UTF-8"
    if isinstance(exc, msgspec.DecodeError):
        return f"JSON in a text: {exc}"
    return "the bytes end too early"

"""From the value of a record to the JSON of its envelope, by its content type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spile.adapters.registry import (
    MAX_PARSED_BYTES,
    BoundedCache,
    SchemaFraming,
    SchemaType,
    unframe,
    weight_of,
)
from spile.adapters.wire import _content_types as content_types
from spile.spi import ProtocolRecord, RegistryUnavailableError, SchemaError, UndecodableError
from spile.topics import MAX_RECORD_BYTES
from spile.topics.encodings import AvroSchema, avro_to_json, message_pack_to_json

_READABLE = ", ".join(
    name.decode() for name in (content_types.JSON, content_types.MESSAGE_PACK, content_types.FRAMED)
)
_MOST_SCHEMAS = 1_000
_CHARSETS = {b"utf-8", b"utf8", b"us-ascii"}


class Opener:
    """
    Reads values of every content type.

    Args:
        framing: Knows the schemas of framed values; without it those have to wait, and the error
            names the setting that is missing. At most 1,000 Avro schemas, and 2 MiB of them, are
            kept parsed: up to 150 MB of memory.
    """

    def __init__(self, framing: SchemaFraming | None = None) -> None:
        self._framing = framing
        # Forgotten ones are parsed again, at the cost of time alone: so even a batch of many large
        # schemas keeps no more than this.
        self._avro: BoundedCache[int, AvroSchema] = BoundedCache(
            _MOST_SCHEMAS, max_weight=MAX_PARSED_BYTES
        )

    @property
    def may_fetch(self) -> bool:
        """Whether `prepare` ever has something to do."""
        return self._framing is not None

    async def prepare(self, records: Iterable[ProtocolRecord]) -> None:
        """
        Fetch what `open` will need for these records.

        Raises:
            RetriableError: The registry is away. Nothing is known about the records, so none may
                be given up: try again.
        """
        if self._framing is None:
            return
        # JSON begins with a brace and MessagePack with another byte, so most need no look.
        framed = [r.value for r in records if r.value is not None and r.value[:1] == b"\0"]
        if framed:
            await self._framing.prepare_reading(framed)

    def open(self, content_type: bytes, value: bytes) -> bytes:
        """
        Return the JSON of the envelope.

        Args:
            content_type: Value of the header; nothing is guessed from the bytes. Capitals and
                parameters make no difference, unless a charset is not UTF-8.
            value: Value of the record.

        Raises:
            UndecodableError: The content type is not readable here, or the bytes are not of it;
                no later attempt reads them.
            RetriableError: The schema was not prepared, or no registry is set.
        """
        if content_type == content_types.JSON:
            return value
        if len(value) > MAX_RECORD_BYTES:
            raise UndecodableError(f"the value has {len(value)} bytes, limit {MAX_RECORD_BYTES}")
        if content_type == content_types.MESSAGE_PACK:
            return message_pack_to_json(value)
        if content_type == content_types.FRAMED:
            return self._unframe(value)
        plain = _without_parameters(content_type)
        if plain is not None and plain != content_type:
            return self.open(plain, value)
        raise UndecodableError(
            f"header content_type is {content_type[:60]!r}, readable here are {_READABLE}",
            field="content_type",
        )

    def _unframe(self, value: bytes) -> bytes:
        framed = unframe(value)
        if self._framing is None:
            # A setting is missing: the event is not to blame, so it waits.
            raise RegistryUnavailableError(
                f"the value is framed with schema {framed.schema_id}, and no registry is set: "
                "SPILE_REGISTRY_URL"
            )
        stored = self._framing.schema_of(framed.schema_id)
        if stored.schema_type is SchemaType.JSON:
            return framed.body
        if stored.schema_type is SchemaType.AVRO:
            return avro_to_json(self._avro_of(framed.schema_id, stored.schema), framed.body)
        raise UndecodableError(
            f"schema {framed.schema_id} is {stored.schema_type.value}, which is not read here"
        )

    def _avro_of(self, schema_id: int, schema: dict[str, Any]) -> AvroSchema:
        parsed = self._avro.get(schema_id)
        if parsed is None:
            try:
                parsed = AvroSchema.parse(schema)
            except SchemaError as exc:
                raise UndecodableError(f"schema {schema_id}: {exc}") from exc
            self._avro.put(schema_id, parsed, weight=weight_of(schema))
        return parsed


def _without_parameters(content_type: bytes) -> bytes | None:
    """
    Return a media type as this package writes it; None when its charset is not read here.

    Source: RFC 9110, 8.3.1: type, subtype and names of parameters are compared without case.
    """
    plain, *parameters = content_type.lower().split(b";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name == b"charset" and value.strip(b'"') not in _CHARSETS:
            return None
    return plain.strip()

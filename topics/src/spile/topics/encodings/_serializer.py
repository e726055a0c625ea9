"""Events as bytes for the stream, the store and people, and back."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from pydantic import BaseModel

from spile.spi import ConfigurationError, MessageTooLargeError, UndecodableError
from spile.topics._limits import MAX_PAYLOAD_BYTES
from spile.topics.encodings import _forms as forms
from spile.topics.encodings._compression import compress, decompress, dictionary_of
from spile.topics.encodings._message_pack import unpack
from spile.topics.encodings._truncation import truncated
from spile.topics.encodings.avro._schema import AvroSchema
from spile.topics.events import ObservabilityEvent

DEFAULT_PAYLOAD_BYTES: Final = 50_000
"""Largest event of the stream, as seed 000 has it."""

MAX_BATCH_BYTES: Final = 16_000_000
"""Largest batch, before it is compressed."""

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_AVRO: Final = b"\xc3\x01"
_BRACE: Final = b"{"
_pack_array: Final = msgspec.msgpack.Encoder().encode
_raw_array: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_raw_json_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_avro_batch: Final = AvroSchema.parse({"type": "array", "items": "bytes"})


class SerializationFormat(StrEnum):
    """How an event stands in bytes."""

    JSON = "json"
    MSGPACK = "msgpack"
    MSGPACK_ZSTD = "msgpack_zstd"
    AVRO = "avro"


class EventSerializer:
    """
    Writes and reads every event of `spile.topics.events.MODELS`, and registered telemetry.

    The bytes say themselves which event they are: by its name, in Avro by the schema's fingerprint
    (single-object encoding). Compressed bytes carry a checksum; the others do not, so `metadata`
    has one, which `deserialize` compares when it is given.

    Args:
        format: MessagePack by default. `MSGPACK_ZSTD` is MessagePack with `enable_compression`.
        enable_compression: Whether the bytes are compressed; needs the extra `zstd`.
        max_payload_size: Most bytes of one event before compression; 50,000 by default, and never
            more than the `MAX_PAYLOAD_BYTES` that can be read. A larger tool result is cut, with
            `result_truncated` and `full_result_size` set.

    Raises:
        ConfigurationError: `max_payload_size` is below 1.
        ValueError: There is no such format.
    """

    def __init__(
        self,
        format: SerializationFormat = SerializationFormat.MSGPACK,  # noqa: A002 - seed 000's name
        enable_compression: bool = False,
        max_payload_size: int = DEFAULT_PAYLOAD_BYTES,
    ) -> None:
        if max_payload_size < 1:
            raise ConfigurationError(f"max_payload_size must be 1 or more, got {max_payload_size}")
        given = SerializationFormat(format)
        self.is_compressed = enable_compression or given is SerializationFormat.MSGPACK_ZSTD
        if given is SerializationFormat.MSGPACK and enable_compression:
            given = SerializationFormat.MSGPACK_ZSTD
        self.format = given
        self.max_payload_size = min(max_payload_size, MAX_PAYLOAD_BYTES)
        self._name = given.value  # looking an enum's value up costs more than packing an event
        self._write = _WRITERS[given]
        self._read = _READERS[given]
        self._escapes = given in {SerializationFormat.JSON, SerializationFormat.AVRO}

    def serialize(self, event: BaseModel) -> tuple[bytes, dict[str, Any]]:
        """
        Return an event as bytes, and what is to know about them.

        The metadata say `format`, `compressed`, `dictionary_id` (None without compression),
        `event_type` (UPPER_SNAKE), `schema_version`, `original_size` (bytes before truncation and
        compression), `encoded_size`, `truncated` and `crc32` (of the bytes).

        Raises:
            InvalidEventError: The event breaks its model, or its class is no model of an event.
            MessageTooLargeError: It is larger than `max_payload_size` and has no tool result that
                could be cut.
            ConfigurationError: Compression is asked for and `zstandard` is not installed.
        """
        form = forms.form_of(event)
        data, size, is_cut = self._fitted(form, event)
        metadata = {
            "format": self._name,
            "compressed": self.is_compressed,
            "dictionary_id": None,
            "event_type": form.event_type,
            "schema_version": schema_version(event),
            "original_size": size,
            "encoded_size": len(data),
            "truncated": is_cut,
        }
        return self._closed(data, metadata)

    def serialize_batch(self, events: Iterable[BaseModel]) -> tuple[bytes, dict[str, Any]]:
        """
        Return many events as bytes: an array of what `serialize` writes, compressed as a whole.

        The metadata have `count` and no event type; `truncated` says how many events were cut.

        Raises:
            InvalidEventError: As `serialize`.
            MessageTooLargeError: As `serialize`, or the batch has more than `MAX_BATCH_BYTES`.
            ConfigurationError: As `serialize`.
        """
        parts: list[bytes] = []
        original = cut = 0
        for event in events:
            data, size, is_cut = self._fitted(forms.form_of(event), event)
            parts.append(data)
            original += size
            cut += is_cut
        data = self._joined(parts)
        if len(data) > MAX_BATCH_BYTES:
            raise MessageTooLargeError(
                f"the batch has {len(data)} bytes, limit {MAX_BATCH_BYTES}",
                size_bytes=len(data),
                limit_bytes=MAX_BATCH_BYTES,
            )
        metadata = {
            "format": self._name,
            "compressed": self.is_compressed,
            "dictionary_id": None,
            "count": len(parts),
            "original_size": original,
            "encoded_size": len(data),
            "truncated": cut,
        }
        return self._closed(data, metadata)

    def deserialize(self, data: bytes, metadata: Mapping[str, Any] | None = None) -> Any:
        """
        Return the event of bytes that a serializer of this format wrote.

        Args:
            data: The bytes.
            metadata: What `serialize` returned with them; its checksum is compared.

        Raises:
            UndecodableError: They are none: corrupt, cut off, of another format or event type,
                nested too deep, too large, or more than one event.
            ConfigurationError: They are compressed and `zstandard` is not installed.
        """
        return self._read(self._opened(data, metadata, MAX_PAYLOAD_BYTES))

    def deserialize_batch(
        self, data: bytes, metadata: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """
        Return the events of a batch that a serializer of this format wrote.

        Raises:
            UndecodableError: As `deserialize`; one bad event makes the batch bad.
            ConfigurationError: As `deserialize`.
        """
        plain = self._opened(data, metadata, MAX_BATCH_BYTES)
        return [self._read(part) for part in self._split(plain)]

    def _fitted(self, form: forms.EventForm, event: BaseModel) -> tuple[bytes, int, bool]:
        """Return the encoded event, its size before truncation, whether it was cut."""
        write = self._write
        try:
            data = write(form, event)
            size = len(data)
        except MessageTooLargeError as exc:
            data, size = b"", exc.size_bytes
        if size <= self.max_payload_size:
            return data, size, False
        cut = truncated(
            event, lambda made: write(form, made), self.max_payload_size, escapes=self._escapes
        )
        if cut is None:
            raise MessageTooLargeError(
                f"{form.event_type}: the event has {size} bytes, limit {self.max_payload_size}",
                size_bytes=size,
                limit_bytes=self.max_payload_size,
                event_type=form.event_type,
            )
        return cut, size, True

    def _closed(self, data: bytes, metadata: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        if self.is_compressed:
            data = compress(data)
            metadata["dictionary_id"] = dictionary_of(data)
            metadata["encoded_size"] = len(data)
        metadata["crc32"] = zlib.crc32(data)
        return data, metadata

    def _opened(self, data: bytes, metadata: Mapping[str, Any] | None, limit: int) -> bytes:
        data = _as_bytes(data)
        if len(data) > limit:
            raise UndecodableError(f"{len(data)} bytes are more than the limit of {limit}")
        if metadata is not None:
            _compare(data, metadata, self.format)
        if not self.is_compressed and data.startswith(_ZSTD):
            raise UndecodableError(
                "the bytes are compressed; `deserialize` and `deserialize_from_storage` read them"
            )
        return decompress(data, limit) if self.is_compressed else data

    def _joined(self, parts: list[bytes]) -> bytes:
        if self.format is SerializationFormat.JSON:
            return b"[" + b",".join(parts) + b"]"
        if self.format is SerializationFormat.AVRO:
            return _avro_batch.encode(parts)
        return _pack_array([msgspec.Raw(part) for part in parts])

    def _split(self, data: bytes) -> list[bytes]:
        try:
            if self.format is SerializationFormat.JSON:
                return [bytes(part) for part in _raw_json_array(data)]
            if self.format is SerializationFormat.AVRO:
                return _avro_batch.decode(data)
            return [bytes(part) for part in _raw_array(data)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UndecodableError(f"the batch is no array: {exc}") from None


def schema_version(event: BaseModel) -> str:
    """Return the version that an event states; 1.0.0 when it states none."""
    if isinstance(event, ObservabilityEvent):
        return event.metadata.schema_version
    stated = event.__dict__.get("schema_version") or event.__dict__.get("event_version")
    return stated if isinstance(stated, str) else "1.0.0"


def _as_bytes(data: object) -> bytes:
    """Return bytes of what holds bytes; a number would make as many zeros."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(cast("bytearray", data))
    raise UndecodableError(f"expected bytes, got {type(data).__name__}")


def _compare(data: bytes, metadata: Mapping[str, Any], wanted: SerializationFormat) -> None:
    stated = metadata.get("format", wanted)
    if stated != wanted:
        raise UndecodableError(f"the metadata say {str(stated)[:40]!r}, expected {wanted.value!r}")
    crc32 = metadata.get("crc32")
    if crc32 is not None and crc32 != zlib.crc32(data):
        raise UndecodableError("the bytes are not those that the metadata were made for: crc32")


def _read_json(data: bytes) -> Any:
    return forms.form_of_json(data).read_json(data)


def _read_message_pack(data: bytes) -> Any:
    tree = unpack(data)
    return forms.form_of_message_pack(tree).read_message_pack(data, tree)


_WRITERS: Final[dict[SerializationFormat, Callable[[forms.EventForm, Any], bytes]]] = {
    SerializationFormat.JSON: forms.EventForm.write_json,
    SerializationFormat.MSGPACK: forms.EventForm.write_message_pack,
    SerializationFormat.MSGPACK_ZSTD: forms.EventForm.write_message_pack,
    SerializationFormat.AVRO: forms.EventForm.write_avro,
}
_READERS: Final[dict[SerializationFormat, Callable[[bytes], Any]]] = {
    SerializationFormat.JSON: _read_json,
    SerializationFormat.MSGPACK: _read_message_pack,
    SerializationFormat.MSGPACK_ZSTD: _read_message_pack,
    SerializationFormat.AVRO: forms.read_avro,
}
_stream: Final = EventSerializer(SerializationFormat.MSGPACK)
_storage: Final = EventSerializer(
    SerializationFormat.MSGPACK_ZSTD, max_payload_size=MAX_PAYLOAD_BYTES
)


def serialize_for_stream(event: BaseModel) -> tuple[bytes, dict[str, Any]]:
    """
    Return an event as MessagePack of at most 50,000 bytes, and its metadata.

    Raises:
        InvalidEventError: As `EventSerializer.serialize`.
        MessageTooLargeError: As `EventSerializer.serialize`.
    """
    return _stream.serialize(event)


def serialize_for_storage(event: BaseModel) -> tuple[bytes, dict[str, Any]]:
    """
    Return an event as compressed MessagePack, and its metadata.

    Only what the bus would not take either (`MAX_PAYLOAD_BYTES`) is cut or refused.

    Raises:
        InvalidEventError: As `EventSerializer.serialize`.
        MessageTooLargeError: As `EventSerializer.serialize`.
        ConfigurationError: `zstandard` is not installed.
    """
    return _storage.serialize(event)


def deserialize_from_stream(data: bytes, metadata: Mapping[str, Any] | None = None) -> Any:
    """
    Return the event that `serialize_for_stream` wrote.

    Raises:
        UndecodableError: As `EventSerializer.deserialize`.
    """
    return _stream.deserialize(data, metadata)


def deserialize_from_storage(data: bytes, metadata: Mapping[str, Any] | None = None) -> Any:
    """
    Return the event that `serialize_for_storage` wrote.

    Raises:
        UndecodableError: As `EventSerializer.deserialize`.
        ConfigurationError: `zstandard` is not installed.
    """
    return _storage.deserialize(data, metadata)


def deserialize(data: bytes, metadata: Mapping[str, Any] | None = None) -> Any:
    """
    Return the event that a serializer of any format wrote.

    The first bytes tell the formats apart: a zstd frame, Avro's single-object marker, JSON's brace;
    MessagePack objects begin with none of them.

    Raises:
        UndecodableError: As `EventSerializer.deserialize`.
        ConfigurationError: The bytes are compressed and `zstandard` is not installed.
    """
    data = _as_bytes(data)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise UndecodableError(f"{len(data)} bytes are more than the limit of {MAX_PAYLOAD_BYTES}")
    if metadata is not None:
        stated = metadata.get("format")
        _compare(data, {"crc32": metadata.get("crc32")}, SerializationFormat.JSON)
        if stated is not None and stated not in list(SerializationFormat):
            raise UndecodableError(f"the metadata say {str(stated)[:40]!r}, which is no format")
    if data.startswith(_ZSTD):
        data = decompress(data, MAX_PAYLOAD_BYTES)
    if data.startswith(_AVRO):
        return forms.read_avro(data)
    if data.startswith(_BRACE):
        return _read_json(data)
    return _read_message_pack(data)

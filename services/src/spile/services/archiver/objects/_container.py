"""
Avro object container files, written so that the same records give the same bytes.

Source: Apache Avro specification 1.12, "Object Container Files". Written by hand because fastavro
needs another zstd package on Python 3.11, and is three times slower for this one schema.
"""

from __future__ import annotations

import hashlib
from typing import Final, cast

import zstandard

from spile.spi import ProtocolRecord

MAGIC: Final = b"Obj\x01"
SYNC_BYTES: Final = 16
CODEC: Final = "zstandard"
MAX_BLOCK_BYTES: Final = 512 << 10
"""
Most uncompressed bytes of a block, unless one record alone is larger.

Blocks of 1 MiB pack 7 % better, and every open partition would hold twice as much in memory.
"""

MAX_READ_BYTES: Final = 32 << 20
"""
Longest record, uncompressed, that readers of an archive take.

A topic bounds the compressed size only, so there may be longer ones.
"""

SCHEMA: Final = (
    '{"name":"spile.archive.Record","type":"record","fields":['
    '{"name":"topic","type":"string"},'
    '{"name":"partition","type":"int"},'
    '{"name":"offset","type":"long"},'
    '{"name":"timestamp","type":"long"},'
    '{"name":"key","type":["null","bytes"]},'
    '{"name":"value","type":["null","bytes"]},'
    '{"name":"headers","type":{"type":"array","items":'
    '{"name":"spile.archive.Header","type":"record","fields":['
    '{"name":"name","type":"string"},'
    '{"name":"value","type":["null","bytes"]}]}}}]}'
)
"""One Kafka record, nothing left out; in Avro's parsing canonical form. Times are milliseconds."""

SCHEMA_SHA256: Final = hashlib.sha256(SCHEMA.encode()).hexdigest()
"""Avro's SHA-256 fingerprint of the schema."""

_LEVEL: Final = 3
_TABLE: Final = 1 << 13


def _varint(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_SMALL: Final = tuple(_varint(number) for number in range(_TABLE))


def _long(number: int) -> bytes:
    return _SMALL[number] if 0 <= number < _TABLE else _varint(number)


def _text(text: str) -> bytes:
    data = text.encode()
    return _long(len(data)) + data


def sync_marker(key: str) -> bytes:
    """Return the marker between the blocks of an object: derived, so that a rerun repeats it."""
    return hashlib.sha256(key.encode()).digest()[:SYNC_BYTES]


class ObjectWriter:
    """
    Makes one object of the records of one partition.

    Memory holds compressed blocks and at most one open block.

    Args:
        key: Key of the object, from which the sync marker is derived.
        topic: Of all records.
        partition: Of all records.
    """

    def __init__(self, key: str, *, topic: str, partition: int) -> None:
        self._sync = sync_marker(key)
        self._lead = _text(topic) + _long(partition)
        self._names: dict[str, bytes] = {}
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_content_size=True, write_checksum=True
        )
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._parts = [_head(self._sync)]
        self._held_bytes = len(self._parts[0])

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""
        return self._held_bytes + self._block_bytes

    def encoded(self, record: ProtocolRecord) -> bytes:
        """Return a record as it is written, before compression."""
        key, value, headers = record.key, record.value, record.headers
        parts = [self._lead, _long(record.offset), _long(record.timestamp)]
        parts += (b"\0",) if key is None else (b"\2", _long(len(key)), key)
        parts += (b"\0",) if value is None else (b"\2", _long(len(value)), value)
        if headers:
            names = self._names
            parts.append(_long(len(headers)))
            for name, given in headers:
                known = names.get(name) or self._name(name)
                content = cast("bytes | None", given)  # a foreign producer may send none
                if content is None:
                    parts += (known, b"\0")
                else:
                    parts += (known, b"\2", _long(len(content)), content)
        parts.append(b"\0")
        return b"".join(parts)

    def add(self, data: bytes) -> None:
        """Write a record that was encoded by this writer, or by one for the same partition."""
        size = len(data)
        if self._block and self._block_bytes + size > MAX_BLOCK_BYTES:
            self._end_block()
        self._block.append(data)
        self._block_bytes += size

    def close(self) -> bytes:
        """Return the object."""
        if self._block:
            self._end_block()
        return b"".join(self._parts)

    def _name(self, name: str) -> bytes:
        encoded = _text(name)
        if len(self._names) < _TABLE:
            self._names[name] = encoded
        return encoded

    def _end_block(self) -> None:
        packed = self._compressor.compress(b"".join(self._block))
        block = _long(len(self._block)) + _long(len(packed)) + packed + self._sync
        self._parts.append(block)
        self._held_bytes += len(block)
        self._block, self._block_bytes = [], 0


def _head(sync: bytes) -> bytes:
    meta = {"avro.schema": SCHEMA, "avro.codec": CODEC}
    pairs = b"".join(_text(name) + _text(text) for name, text in meta.items())
    return MAGIC + _long(len(meta)) + pairs + b"\0" + sync

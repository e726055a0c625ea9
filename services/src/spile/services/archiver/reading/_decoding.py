"""The records in a block: read once, each length compared with what may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from spile.adapters.delivery import Record
from spile.services.archiver.reading._container import Block, ReadLimits
from spile.spi import UndecodableError

_LONG_BYTES: Final = 10
_MORE: Final = 0x80
_LONG_MAX: Final = 2**63 - 1
_NULL, _BYTES = 0, 2
"""The branches of `["null", "bytes"]`, as the one byte that they are written as."""


class RecordDecoder:
    """
    Decodes the blocks of one object.

    Args:
        name: The object; named in errors.
        topic: The only topic that its records may have.
        partition: The only partition.
        limits: Bounds.
    """

    def __init__(self, name: str, topic: str, partition: int, limits: ReadLimits) -> None:
        self._name = name
        self._topic = topic
        self._partition = partition
        self._limits = limits
        self._place = _long(len(topic)) + topic.encode() + _long(partition)

    def records(self, block: Block) -> Iterator[Record]:
        """
        Give the records of a block, one at a time.

        Raises:
            UndecodableError: The bytes are no such records, are of another partition, break a
                bound, or there are more or fewer of them than the block says.
        """
        data = block.data
        pos = 0
        try:
            for _ in range(block.count):
                record, pos = self._record(data, pos)
                yield record
        except IndexError:
            raise self._wrong("has a block that ends in a record") from None
        if pos != len(data):
            raise self._wrong(f"has {len(data) - pos} bytes behind the records of a block")

    def _record(self, data: bytes, pos: int) -> tuple[Record, int]:
        if pos >= len(data):
            raise IndexError
        if not data.startswith(self._place, pos):
            raise self._wrong(f"has a record of another partition than {self._topic}", pos)
        offset, pos = self._long(data, pos + len(self._place))
        timestamp, pos = self._long(data, pos)
        if offset < 0:
            raise self._wrong(f"has a record with the offset {offset}", pos)
        key, pos = self._optional(data, pos, self._limits.key_bytes, "key")
        value, pos = self._optional(data, pos, self._limits.value_bytes, "value")
        headers, pos = self._headers(data, pos)
        record = Record(self._topic, self._partition, offset, timestamp, key, value, headers)
        return record, pos

    def _headers(self, data: bytes, pos: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
        found: list[tuple[str, bytes | None]] = []
        limits = self._limits
        while True:
            count, pos = self._long(data, pos)
            if not count:
                # A null value is legal in Kafka; the type that all share does not say so.
                return tuple(found), pos  # pyright: ignore[reportReturnType]
            if count < 0:
                count = -count
                _, pos = self._long(data, pos)
            if len(found) + count > limits.headers:
                raise self._wrong(f"has a record of more than {limits.headers} headers", pos)
            for _ in range(count):
                name, pos = self._cut(data, pos, limits.header_name_bytes, "header name")
                value, pos = self._optional(data, pos, limits.value_bytes, "header")
                try:
                    found.append((name.decode(), value))
                except UnicodeDecodeError:
                    raise self._wrong("has a header name that is no UTF-8", pos) from None

    def _optional(self, data: bytes, pos: int, limit: int, what: str) -> tuple[bytes | None, int]:
        branch = data[pos]
        if branch == _BYTES:
            return self._cut(data, pos + 1, limit, what)
        if branch != _NULL:
            raise self._wrong(f"has a {what} that is neither null nor bytes", pos)
        return None, pos + 1

    def _cut(self, data: bytes, pos: int, limit: int, what: str) -> tuple[bytes, int]:
        size, pos = self._long(data, pos)
        if not 0 <= size <= limit:
            raise self._wrong(f"has a {what} of {size} bytes, limit {limit}", pos)
        end = pos + size
        if end > len(data):
            raise IndexError
        return data[pos:end], end

    def _long(self, data: bytes, pos: int) -> tuple[int, int]:
        byte = data[pos]
        pos += 1
        if byte < _MORE:
            return (byte >> 1) ^ -(byte & 1), pos
        number, shift, end = byte & ~_MORE, 7, pos + _LONG_BYTES - 1
        while byte >= _MORE:
            if pos >= end:
                raise self._wrong("has a number of more than 64 bits", pos)
            byte = data[pos]
            pos += 1
            number |= (byte & ~_MORE) << shift
            shift += 7
        if number >> 64:
            raise self._wrong("has a number of more than 64 bits", pos)
        return (number >> 1) ^ -(number & 1), pos

    def _wrong(self, why: str, pos: int | None = None) -> UndecodableError:
        where = "" if pos is None else f", byte {pos} of a block"
        return UndecodableError(f"{self._name} {why}{where}")


def _long(number: int) -> bytes:
    number *= 2
    made = bytearray()
    while number >= _MORE:
        made.append(number & ~_MORE | _MORE)
        number >>= 7
    made.append(number)
    return bytes(made)

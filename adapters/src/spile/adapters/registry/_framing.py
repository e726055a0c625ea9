"""
The frame that says which schema the bytes keep.

Source: Confluent Schema Registry, "Wire format": a zero byte, the id as four bytes, big-endian,
then the body; a Protobuf body starts with the indexes of its message type as zig-zag varints.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from spile.spi import UndecodableError

_HEAD = struct.Struct(">bI")
FRAME_BYTES = _HEAD.size
_MAGIC = 0
_LARGEST_ID = (1 << 31) - 1
_MAX_INDEXES = 64
_VARINT_BYTES = 5
_MORE, _BITS = 0x80, 0x7F


@dataclass(frozen=True, slots=True, kw_only=True)
class Framed:
    """
    A message out of its frame.

    Attributes:
        schema_id: Id of the schema that it was written with.
        body: The bytes behind the frame.
        message_indexes: Of a Protobuf message, when asked for: which message type of the schema.
    """

    schema_id: int
    body: bytes = field(repr=False)
    message_indexes: tuple[int, ...] | None = None


def frame(schema_id: int, body: bytes, *, message_indexes: Sequence[int] | None = None) -> bytes:
    """
    Put bytes into a frame.

    Args:
        schema_id: Id of the schema that they keep.
        body: The bytes; of a Protobuf message that is passed through, its indexes included.
        message_indexes: Indexes to put before a Protobuf body that has none yet.

    Raises:
        ValueError: The id, or an index, does not fit into the frame.
    """
    if not 0 <= schema_id <= _LARGEST_ID:
        raise ValueError(f"{schema_id} is no schema id; expected 0 to {_LARGEST_ID}")
    indexes = b"" if message_indexes is None else _written(message_indexes)
    return _HEAD.pack(_MAGIC, schema_id) + indexes + body


def unframe(data: bytes, *, protobuf: bool = False) -> Framed:
    """
    Take bytes out of their frame.

    Args:
        data: The framed bytes.
        protobuf: Read the indexes that a Protobuf body starts with. Without it they stay in the
            body untouched, so that framing it again gives the same bytes.

    Raises:
        UndecodableError: They are too short, start with another byte than 0, name an id that no
            registry gives, or have broken indexes.
    """
    if len(data) < FRAME_BYTES:
        raise UndecodableError(f"{len(data)} bytes are too short for the frame of a schema id")
    magic, schema_id = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise UndecodableError(f"the frame starts with byte {data[0]}, expected 0")
    if schema_id > _LARGEST_ID:
        raise UndecodableError(f"the frame names schema {schema_id}, above {_LARGEST_ID}")
    if not protobuf:
        return Framed(schema_id=schema_id, body=bytes(data[FRAME_BYTES:]))
    indexes, start = _read(data, FRAME_BYTES)
    return Framed(schema_id=schema_id, body=bytes(data[start:]), message_indexes=indexes)


def _read(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """Return the indexes and where the body starts."""
    count, at = _varint(data, at)
    if count == 0:  # short for the first message type
        return (0,), at
    if not 0 < count <= _MAX_INDEXES:
        raise UndecodableError(f"the frame has {count} message indexes, limit {_MAX_INDEXES}")
    indexes: list[int] = []
    for _ in range(count):
        index, at = _varint(data, at)
        if index < 0:
            raise UndecodableError(f"the frame has the message index {index}")
        indexes.append(index)
    return tuple(indexes), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(_VARINT_BYTES):
        if at + step >= len(data):
            break
        byte = data[at + step]
        value |= (byte & _BITS) << (7 * step)
        if byte < _MORE:
            return (value >> 1) ^ -(value & 1), at + step + 1
    raise UndecodableError("the message indexes of the frame are broken")


def _written(indexes: Sequence[int]) -> bytes:
    if not 0 < len(indexes) <= _MAX_INDEXES or not all(0 <= i <= _LARGEST_ID for i in indexes):
        raise ValueError(f"expected 1 to {_MAX_INDEXES} message indexes of 0 or more")
    if list(indexes) == [0]:
        return b"\0"
    return b"".join(_zig_zag(number) for number in (len(indexes), *indexes))


def _zig_zag(number: int) -> bytes:
    left, out = number << 1, bytearray()
    while left > _BITS:
        out.append(left & _BITS | _MORE)
        left >>= 7
    out.append(left)
    return bytes(out)

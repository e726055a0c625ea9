"""
Reading Avro within bounds.

fastavro, which writes here, is no reader of hostile bytes (looked at: 1.13). It reads a negative
branch or symbol as one from the end, takes numbers of more than 64 bits and any byte for true,
ignores the size of a block and the first of two equal keys; what it returns shows none of that. And
it believes any count: a kilobyte of records of nulls becomes a million values. To walk over the
bytes and find all this costs as much as reading them, so they are read here, once. When
`test_why_fastavro_does_not_read` fails, look again.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import msgspec

from spile.spi import UndecodableError
from spile.topics._json import is_deeper
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics.encodings.avro._types import AvroType

MAX_ITEMS: Final = 100_000
"""Most items of one array or map."""

MAX_VALUES: Final = 300_000
"""Most values of one datum, all arrays and maps together."""

Reader: TypeAlias = Callable[[bytes, int, list[int]], tuple[Any, int]]
"""Takes the bytes, where to start, how many values are left; returns the value and where it ends"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_LONG_BYTES: Final = 10
_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_parse_json: Final = msgspec.json.Decoder().decode


def _wrong(why: str) -> UndecodableError:
    return UndecodableError(f"Avro: {why}")


def read_long(data: bytes, pos: int) -> tuple[int, int]:
    """
    Read a zigzag number of at most 64 bits.

    Raises:
        UndecodableError: It has more.
        IndexError: The bytes end in it.
    """
    byte = data[pos]
    pos += 1
    if byte < 128:  # noqa: PLR2004 - the bit that says that more follows
        return (byte >> 1) ^ -(byte & 1), pos
    number, shift, end = byte & 127, 7, pos + _LONG_BYTES - 1
    while byte > 127:  # noqa: PLR2004 - the same
        if pos >= end:
            raise _wrong("a number has more than 64 bits")
        byte = data[pos]
        pos += 1
        number |= (byte & 127) << shift
        shift += 7
    if number >> 64:
        raise _wrong("a number has more than 64 bits")
    return (number >> 1) ^ -(number & 1), pos


def _read_null(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = data, left
    return None, pos


def _read_boolean(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    byte = data[pos]
    if byte > 1:
        raise _wrong("a boolean is neither 0 nor 1")
    return byte == 1, pos + 1


def _read_int(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    number, pos = read_long(data, pos)
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise _wrong("an int has more than 32 bits")
    return number, pos


def _read_long(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    return read_long(data, pos)


def _read_float(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    return _finite(_FLOAT.unpack_from(data, pos)[0]), pos + 4


def _read_double(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    return _finite(_DOUBLE.unpack_from(data, pos)[0]), pos + 8


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise _wrong("NaN and Infinity are no numbers on the bus")
    return number


def _cut(data: bytes, pos: int) -> tuple[bytes, int]:
    length = data[pos]
    if length < 128 and not length & 1:  # noqa: PLR2004 - one byte, not negative
        length >>= 1
        pos += 1
    else:
        length, pos = read_long(data, pos)
    end = pos + length
    if length < 0 or end > len(data):
        raise _wrong("a length leads beyond the end")
    return data[pos:end], end


def _read_bytes(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    return _cut(data, pos)


def _read_string(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    cut, pos = _cut(data, pos)
    return cut.decode(), pos


def _read_uuid(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    cut, pos = _cut(data, pos)
    try:
        return UUID(cut.decode()), pos
    except ValueError:
        raise _wrong("a text is no UUID") from None


def _cut_json(data: bytes, pos: int) -> tuple[bytes, int]:
    cut, pos = _cut(data, pos)
    if is_deeper(cut, MAX_JSON_DEPTH):
        raise _wrong(f"JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    return cut, pos


def _read_json(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    cut, pos = _cut_json(data, pos)
    return _parse_json(cut), pos


def _read_json_text(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    _ = left
    cut, pos = _cut_json(data, pos)
    _parse_json(cut)
    return msgspec.Raw(cut), pos


def _timestamp(unit: timedelta) -> Reader:
    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        _ = left
        number, pos = read_long(data, pos)
        try:
            return _EPOCH + number * unit, pos
        except OverflowError:
            raise _wrong("a time lies beyond the years 1 to 9999") from None

    return read


_PRIMITIVES: Final[dict[tuple[str, str | None], Reader]] = {
    ("null", None): _read_null,
    ("boolean", None): _read_boolean,
    ("int", None): _read_int,
    ("long", None): _read_long,
    ("float", None): _read_float,
    ("double", None): _read_double,
    ("bytes", None): _read_bytes,
    ("string", None): _read_string,
    ("string", "uuid"): _read_uuid,
    ("string", "json"): _read_json,
    ("long", "timestamp-micros"): _timestamp(timedelta(microseconds=1)),
    ("long", "timestamp-millis"): _timestamp(timedelta(milliseconds=1)),
}


def reader_of(node: AvroType, made: dict[AvroType, Reader], *, for_json: bool = False) -> Reader:
    """
    Return the reader of a type.

    Args:
        node: The type.
        made: Readers that exist already, completed here.
        for_json: Whether the value is only to become JSON: JSON in a text is checked and kept as
            `msgspec.Raw`, and a field that is null, and null by default, is left out.
    """
    found = made.get(node)
    if found is None:
        found = made[node] = _make(node, made, for_json=for_json)
    return found


def _make(  # noqa: PLR0911 - one return a kind
    node: AvroType, made: dict[AvroType, Reader], *, for_json: bool
) -> Reader:
    def inner(part: AvroType) -> Reader:
        return reader_of(part, made, for_json=for_json)

    match node.kind:
        case "record":
            if not for_json:
                return _record([(part.name, inner(part.type)) for part in node.fields])
            return _sparse_record(
                [
                    (part.name, inner(part.type), part.has_default and part.default is None)
                    for part in node.fields
                ]
            )
        case "union":
            return _union([inner(part) for part in node.branches])
        case "enum":
            return _enum(node.symbols)
        case "fixed":
            return _fixed(node.size)
        case "array" | "map":
            items = cast("AvroType", node.items)
            if node.kind == "map":
                return _map(inner(items), items)
            return _doubles if items.kind == "double" else _array(inner(items), items)
        case _:
            if node.logical == "json" and for_json:
                return _read_json_text
            return _PRIMITIVES[node.kind, node.logical]


def _record(fields: list[tuple[str, Reader]]) -> Reader:
    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        record: dict[str, Any] = {}
        for name, read_field in fields:
            record[name], pos = read_field(data, pos, left)
        return record, pos

    return read


def _sparse_record(fields: list[tuple[str, Reader, bool]]) -> Reader:
    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        record: dict[str, Any] = {}
        for name, read_field, may_miss in fields:
            value, pos = read_field(data, pos, left)
            if value is not None or not may_miss:
                record[name] = value
        return record, pos

    return read


def _union(branches: list[Reader]) -> Reader:
    count = len(branches)

    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        index, pos = read_long(data, pos)
        if not 0 <= index < count:
            raise _wrong(f"a union has {count} branches, branch {index} is asked for")
        return branches[index](data, pos, left)

    if count != 2 or branches[0] is not _read_null:  # noqa: PLR2004 - null and one type
        return read
    given = branches[1]

    def read_optional(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        byte = data[pos]
        if byte == 0:
            return None, pos + 1
        if byte == 2:  # noqa: PLR2004 - branch 1
            return given(data, pos + 1, left)
        return read(data, pos, left)

    return read_optional


def _enum(symbols: tuple[str, ...]) -> Reader:
    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        _ = left
        index, pos = read_long(data, pos)
        if not 0 <= index < len(symbols):
            raise _wrong(f"an enum has {len(symbols)} symbols, symbol {index} is asked for")
        return symbols[index], pos

    return read


def _fixed(size: int) -> Reader:
    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        _ = left
        end = pos + size
        if end > len(data):
            raise _wrong("the bytes end in a fixed")
        return data[pos:end], end

    return read


def _block(
    data: bytes, pos: int, left: list[int], *, smallest: int, values: int
) -> tuple[int, int, int]:
    """Return the items of the next block, where they start, and where they end if it says so."""
    count, pos = read_long(data, pos)
    end = -1
    if count < 0:
        count = -count
        size, pos = read_long(data, pos)
        end = pos + size
        if size < 0 or end > len(data):
            raise _wrong("a block leads beyond the end")
    if count > MAX_ITEMS:
        raise _wrong(f"an array or map has more than {MAX_ITEMS} items")
    if count * smallest > len(data) - pos:
        raise _wrong("a block has more items than bytes are left for")
    left[0] -= count * values
    if left[0] < 0:
        raise _wrong(f"a datum has more than {MAX_VALUES} values")
    return count, pos, end


def _array(read_item: Reader, items: AvroType) -> Reader:
    smallest, values = items.smallest, items.values

    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        found: list[Any] = []
        while True:
            count, pos, end = _block(data, pos, left, smallest=smallest, values=values)
            if not count:
                return found, pos
            for _ in range(count):
                item, pos = read_item(data, pos, left)
                found.append(item)
            _check_block(len(found), pos, end)

    return read


def _doubles(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
    found: list[float] = []
    while True:
        count, pos, end = _block(data, pos, left, smallest=8, values=1)
        if not count:
            return found, pos
        block = struct.unpack_from(f"<{count}d", data, pos)
        if not all(map(math.isfinite, block)):
            raise _wrong("NaN and Infinity are no numbers on the bus")
        found += block
        pos += 8 * count
        _check_block(len(found), pos, end)


def _map(read_item: Reader, items: AvroType) -> Reader:
    smallest, values = 1 + items.smallest, 1 + items.values

    def read(data: bytes, pos: int, left: list[int]) -> tuple[Any, int]:
        found: dict[str, Any] = {}
        while True:
            count, pos, end = _block(data, pos, left, smallest=smallest, values=values)
            if not count:
                return found, pos
            for _ in range(count):
                key, pos = _read_string(data, pos, left)
                if key in found:
                    raise _wrong("a map has a key twice")
                found[key], pos = read_item(data, pos, left)
            _check_block(len(found), pos, end)

    return read


def _check_block(items: int, pos: int, end: int) -> None:
    if items > MAX_ITEMS:
        raise _wrong(f"an array or map has more than {MAX_ITEMS} items")
    if end not in {-1, pos}:
        raise _wrong("a block does not end where it says")


PROBLEMS: Final = (IndexError, struct.error, UnicodeDecodeError, msgspec.DecodeError)
"""What the readers raise on bytes that end early or hold no UTF-8 or no JSON."""

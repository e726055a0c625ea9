"""Writing Avro strictly: what is not in the schema is refused, never left out."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import msgspec

from spile.spi import SchemaError
from spile.topics._json import find_non_finite, is_deeper, json_encoder
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics.encodings._avro_types import AvroField, AvroType

Writer: TypeAlias = Callable[[bytearray, Any], None]
"""Appends a value to the bytes; raises `MismatchError` when it is none of the type."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_SMALL: Final = 64
_MISSING: Final = object()


class MismatchError(Exception):
    """
    Raised inside this package when a value is not of its type.

    Attributes:
        path: Where, from the inside out.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []


def write_long(out: bytearray, number: int) -> None:
    """Append a number as zigzag varint."""
    if -_SMALL <= number < _SMALL:
        out.append((number << 1) ^ (number >> 63))
        return
    number = (number << 1) ^ (number >> 63)
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        out.append((number & 127) | 128)
        number >>= 7
    out.append(number)


def _write_null(out: bytearray, value: Any) -> None:
    _ = out
    if value is not None:
        raise MismatchError("expected null")


def _write_boolean(out: bytearray, value: Any) -> None:
    if type(value) is not bool:
        raise MismatchError("expected true or false")
    out.append(value)


def _integer(bits: int) -> Writer:
    limit = 1 << (bits - 1)

    def write(out: bytearray, value: Any) -> None:
        if type(value) is not int:
            raise MismatchError("expected a whole number")
        if not -limit <= value < limit:
            raise MismatchError(f"expected a whole number of at most {bits} bits")
        write_long(out, value)

    return write


def _real(form: struct.Struct) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if type(value) is not float and type(value) is not int:
            raise MismatchError("expected a number")
        try:
            packed = form.pack(value)
        except (OverflowError, struct.error):
            raise MismatchError("expected a number that fits the type") from None
        if not isfinite(value):
            raise MismatchError("NaN and Infinity are no numbers on the bus")
        out += packed

    return write


def _append(out: bytearray, data: bytes) -> None:
    write_long(out, len(data))
    out += data


def _write_string(out: bytearray, value: Any) -> None:
    if not isinstance(value, str):
        raise MismatchError("expected text")
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise MismatchError("expected text without lone surrogates") from None
    write_long(out, len(data))
    out += data


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise MismatchError("expected bytes or their base64 text") from None
    if not isinstance(value, (bytes, bytearray)):
        raise MismatchError("expected bytes or their base64 text")
    return bytes(value)


def _write_bytes(out: bytearray, value: Any) -> None:
    _append(out, _as_bytes(value))


def _write_uuid(out: bytearray, value: Any) -> None:
    if not isinstance(value, UUID):
        try:
            value = msgspec.convert(value, UUID)
        except msgspec.ValidationError:
            raise MismatchError("expected a UUID") from None
    out.append(72)
    out += str(value).encode()


def _write_json(out: bytearray, value: Any) -> None:
    if isinstance(value, msgspec.Raw):
        data = bytes(value)
    else:
        try:
            data = json_encoder.encode(value)
            odd = find_non_finite(value) if b"null" in data else None
        except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as exc:
            raise MismatchError(f"expected JSON: {exc}") from None
        if odd is not None:
            raise MismatchError("NaN and Infinity are no numbers on the bus")
    if is_deeper(data, MAX_JSON_DEPTH):
        raise MismatchError(f"JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    _append(out, data)


def _timestamp(unit: timedelta) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, datetime):
            try:
                value = msgspec.convert(value, datetime)
            except msgspec.ValidationError:
                raise MismatchError("expected a time") from None
        if value.tzinfo is None:
            raise MismatchError("expected a time with its offset from UTC")
        write_long(out, (value - _EPOCH) // unit)

    return write


_PRIMITIVES: Final[dict[tuple[str, str | None], Writer]] = {
    ("null", None): _write_null,
    ("boolean", None): _write_boolean,
    ("int", None): _integer(32),
    ("long", None): _integer(64),
    ("float", None): _real(_FLOAT),
    ("double", None): _real(_DOUBLE),
    ("bytes", None): _write_bytes,
    ("string", None): _write_string,
    ("string", "uuid"): _write_uuid,
    ("string", "json"): _write_json,
    ("long", "timestamp-micros"): _timestamp(timedelta(microseconds=1)),
    ("long", "timestamp-millis"): _timestamp(timedelta(milliseconds=1)),
}


def writer_of(node: AvroType, made: dict[AvroType, Writer]) -> Writer:
    """
    Return the writer of a type.

    Args:
        node: The type.
        made: Writers that exist already, completed here.

    Raises:
        SchemaError: A default is not of its field's type.
    """
    found = made.get(node)
    if found is None:
        found = made[node] = _make(node, made)
    return found


def _make(node: AvroType, made: dict[AvroType, Writer]) -> Writer:  # noqa: PLR0911 - one return a kind
    match node.kind:
        case "record":
            return _record([(part, writer_of(part.type, made)) for part in node.fields], node.name)
        case "union":
            return _union(node.branches, [writer_of(part, made) for part in node.branches])
        case "enum":
            return _enum(node.symbols)
        case "fixed":
            return _fixed(node.size)
        case "array":
            items = cast("AvroType", node.items)
            write_item = _array(writer_of(items, made))
            return _doubles(write_item) if items.kind == "double" else write_item
        case "map":
            return _map(writer_of(cast("AvroType", node.items), made))
        case _:
            return _PRIMITIVES[node.kind, node.logical]


def _default_of(part: AvroField, write: Writer, record: str) -> bytes | None:
    if not part.has_default:
        return None
    out, value = bytearray(), part.default
    if isinstance(value, str) and part.type.kind in {"bytes", "fixed"}:
        value = value.encode("latin-1", "replace")
    try:
        write(out, value)
    except MismatchError as exc:
        raise SchemaError(f"default of {record}.{part.name}: {exc}") from None
    return bytes(out)


def _record(fields: list[tuple[AvroField, Writer]], record: str) -> Writer:
    plan = [(part.name, write, _default_of(part, write, record)) for part, write in fields]
    names = {part.name for part, _ in fields}

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise MismatchError("expected an object")
        given = cast("Mapping[str, Any]", value)
        known = 0
        for name, write_field, default in plan:
            item = given.get(name, _MISSING)
            if item is _MISSING:
                if default is None:
                    raise _at(name, MismatchError("is missing"))
                out += default
                continue
            known += 1
            try:
                write_field(out, item)
            except MismatchError as exc:
                raise _at(name, exc) from None
        if known != len(given):
            extra = next(str(name) for name in given if name not in names)
            raise _at(extra[:80], MismatchError("is not in the schema"))

    return write


def _at(name: str, exc: MismatchError) -> MismatchError:
    exc.path.append(name)
    return exc


def _union(branches: tuple[AvroType, ...], writers: list[Writer]) -> Writer:
    plan = [
        (bytes([index << 1]) if index < _SMALL else None, index, write)
        for index, write in enumerate(writers)
    ]

    def write(out: bytearray, value: Any) -> None:
        start = len(out)
        problem = MismatchError("no branch of the union takes it")
        for prefix, index, write_branch in plan:
            if prefix is None:
                write_long(out, index)
            else:
                out += prefix
            try:
                write_branch(out, value)
            except MismatchError as exc:
                del out[start:]
                problem = exc
            else:
                return
        raise problem

    if len(branches) != 2 or branches[0].kind != "null":  # noqa: PLR2004 - null and one type
        return write
    given = writers[1]

    def write_optional(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
            return
        out.append(2)
        given(out, value)

    return write_optional


def _enum(symbols: tuple[str, ...]) -> Writer:
    places = {symbol: index for index, symbol in enumerate(symbols)}

    def write(out: bytearray, value: Any) -> None:
        place = places.get(value) if isinstance(value, str) else None
        if place is None:
            raise MismatchError(f"expected one of {', '.join(symbols)[:200]}")
        write_long(out, place)

    return write


def _fixed(size: int) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        data = _as_bytes(value)
        if len(data) != size:
            raise MismatchError(f"expected {size} bytes")
        out += data

    return write


def _array(write_item: Writer) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            raise MismatchError("expected a list")
        items = cast("list[Any]", value)
        if items:
            write_long(out, len(items))
            for index, item in enumerate(items):
                try:
                    write_item(out, item)
                except MismatchError as exc:
                    raise _at(str(index), exc) from None
        out.append(0)

    return write


def _doubles(write_one_by_one: Writer) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        items = cast("list[Any]", value)
        if type(value) is list and set(map(type, items)) == {float} and all(map(isfinite, items)):
            write_long(out, len(items))
            out += struct.pack(f"<{len(items)}d", *items)
            out.append(0)
        else:
            write_one_by_one(out, value)

    return write


def _map(write_item: Writer) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise MismatchError("expected an object")
        items = cast("Mapping[str, Any]", value)
        if items:
            write_long(out, len(items))
            for key, item in items.items():
                _write_string(out, key)
                try:
                    write_item(out, item)
                except MismatchError as exc:
                    raise _at(key, exc) from None
        out.append(0)

    return write

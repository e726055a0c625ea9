"""Which definitions are accepted, and what the bytes of a message are held against."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, cast
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from spile.adapters.registry._values import SchemaType, StoredSchema
from spile.spi import SchemaError, UndecodableError
from spile.topics import MAX_RECORD_BYTES
from spile.topics.encodings import AvroSchema

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Largest definition, as compact JSON."""

_MAX_DEPTH: Final = 64
_MAX_PARTS: Final = 20_000
_MAX_SUBJECT: Final = 1_000
_PATTERNS: Final = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20)

Check = Callable[[bytes], bool]


def schema_type_of(text: str) -> SchemaType:
    """
    Return the language with this name.

    Raises:
        SchemaError: There is none.
    """
    try:
        return SchemaType(text)
    except ValueError:
        known = ", ".join(SchemaType)
        raise SchemaError(f"there is no schema type {text!r}; use one of {known}") from None


def check_subject(subject: str) -> str:
    """
    Return the subject when it can be one.

    Raises:
        SchemaError: It is empty, longer than 1000 characters, not printable, or a dot segment.
    """
    if not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable() or not subject.strip("."):
        raise SchemaError(
            f"{subject[:80]!r} is no subject; expected 1 to {_MAX_SUBJECT} printable characters"
        )
    return subject


def canonical(schema: dict[str, Any], schema_type: SchemaType) -> str:
    """
    Return a definition as text, the same for equal definitions.

    Keys are sorted, because some registries compare the text to tell a repeated registration.

    Raises:
        SchemaError: It is no JSON, has more than 64 KiB, is recursive or refers to another
            document, or is no schema of its language.
    """
    try:
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise SchemaError(f"the schema is no JSON: {exc}") from None
    check_size(text)
    if schema_type is SchemaType.PROTOBUF:
        return _proto_of(schema)
    check_of(StoredSchema(schema_id=0, schema_type=schema_type, schema=schema))
    return text


def check_size(text: str) -> None:
    """
    Refuse a definition that is too large.

    Raises:
        SchemaError: It has more than 64 KiB.
    """
    size = len(text.encode())
    if size > MAX_SCHEMA_BYTES:
        raise SchemaError(f"the schema has {size} bytes, limit {MAX_SCHEMA_BYTES}")


def definition_of(text: str, schema_type: SchemaType) -> dict[str, Any]:
    """
    Return the text that a registry keeps as a definition.

    Raises:
        SchemaError: It has more than 64 KiB, or is none of that language.
    """
    check_size(text)
    if schema_type is SchemaType.PROTOBUF:
        return {"proto": text}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise SchemaError(f"the registry's {schema_type} schema is no JSON: {exc}") from None
    if isinstance(found, str) and schema_type is SchemaType.AVRO:
        return {"type": found}
    if not isinstance(found, dict):
        raise SchemaError(
            f"the registry's {schema_type} schema is {type(found).__name__}, expected an object"
        )
    return cast("dict[str, Any]", found)


def check_of(stored: StoredSchema) -> Check:
    """
    Make the check that a schema stands for.

    Returns:
        A function that says whether bytes keep the schema. It needs bounded time and memory,
        and never raises.

    Raises:
        SchemaError: The schema is recursive, refers to another document, is no schema of its
            language, or is of Protobuf, which is only passed through.
    """
    if stored.schema_type is SchemaType.AVRO:
        avro = AvroSchema.parse(stored.schema)
        return lambda message: _decodes(avro, message)
    if stored.schema_type is SchemaType.PROTOBUF:
        raise SchemaError(f"schema {stored.schema_id}: Protobuf is passed through, not checked")
    _refuse_recursion(stored.schema)
    try:
        validator = jsonschema_rs.validator_for(
            stored.schema, offline=True, pattern_options=_PATTERNS
        )
    except ValueError as exc:
        reason = next(iter(str(exc).splitlines()), "")
        raise SchemaError(f"this is no JSON Schema: {reason}") from None
    return lambda message: _keeps(validator, message)


def _decodes(avro: AvroSchema, message: bytes) -> bool:
    try:
        avro.decode(message)
    except UndecodableError:
        return False
    return True


def _keeps(validator: jsonschema_rs.Validator, message: bytes) -> bool:
    if len(message) > MAX_RECORD_BYTES:
        return False
    try:
        return validator.is_valid(msgspec.json.decode(message))
    except (ValueError, RecursionError):
        return False


def _proto_of(schema: dict[str, Any]) -> str:
    text: object = schema.get("proto")
    if schema.keys() != {"proto"} or not isinstance(text, str):
        raise SchemaError("a PROTOBUF schema is an object with one key, proto: its text")
    return text


def _refuse_recursion(schema: dict[str, Any]) -> None:
    """
    Walk a JSON Schema as its references do, and refuse a way that meets itself or is too long.

    Without the second, forty small parts that each refer to the next one twice would be walked
    2^40 times for one message.
    """
    sizes: dict[tuple[str, ...], int] = {}

    def visit(at: tuple[str, ...], value: object, above: frozenset[tuple[str, ...]]) -> int:
        if at in above:
            raise SchemaError(f"the schema is recursive: {'/'.join(('#', *at))} holds itself")
        if len(above) > _MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {_MAX_DEPTH} levels")
        if not isinstance(value, (dict, list)):
            return 0
        if at not in sizes:
            node, here = cast("object", value), above | {at}
            parts = [visit(target, _at(schema, target), here) for target in _references(node)]
            parts += [visit((*at, key), item, here) for key, item in _items(node)]
            sizes[at] = 1 + sum(parts)
            if sizes[at] > _MAX_PARTS:
                raise SchemaError(
                    f"the schema has more than {_MAX_PARTS} parts, each counted wherever it is used"
                )
        return sizes[at]

    visit((), schema, frozenset())


def _references(value: object) -> Iterator[tuple[str, ...]]:
    """Yield where the references of one level point to."""
    if not isinstance(value, dict):
        return
    level = cast("dict[str, object]", value)
    for name in ("$dynamicRef", "$recursiveRef"):
        if isinstance(level.get(name), str):
            raise SchemaError(f"the schema uses {name}, which is made for recursion")
    target = level.get("$ref")
    if not isinstance(target, str):
        return
    pointer = unquote(target)
    if pointer != "#" and not pointer.startswith("#/"):
        raise SchemaError(
            f"the schema refers to {target[:80]!r}; expected a place in itself, #/..."
        )
    parts = pointer[1:].split("/")[1:]
    yield tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _at(schema: object, target: tuple[str, ...]) -> object:
    """Return what a pointer points to; None when nothing is there."""
    found = schema
    for part in target:
        if isinstance(found, dict):
            found = cast("dict[str, object]", found).get(part)
        elif isinstance(found, list) and part.isdigit():
            entries = cast("list[object]", found)
            found = entries[int(part)] if int(part) < len(entries) else None
        else:
            return None
    return found


def _items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from cast("dict[str, object]", value).items()
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[object]", value)):
            yield str(number), item

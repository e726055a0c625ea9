"""Comparing two schemas as a registry does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from spile.spi import SchemaError
from spile.topics.schemas.comparison._avro_subset import AvroReading
from spile.topics.schemas.comparison._difference import Difference, Level, SchemaKind
from spile.topics.schemas.comparison._json_subset import JsonReading


def compare(
    old: Any,
    new: Any,
    *,
    level: Level | str = Level.BACKWARD,
    kind: SchemaKind | str = SchemaKind.JSON,
) -> list[Difference]:
    """
    Say what keeps a new schema from following an old one at a level of compatibility.

    The verdict is that of a schema registry. For JSON Schema, one schema follows another when it
    accepts all that the other accepts: an object that does not say `additionalProperties: false`
    is open, so that a field that it does not name may hold anything, and naming it narrows that.
    For Avro, the rules of schema resolution hold.

    Args:
        old: The schema that is there, as an object or as JSON text.
        new: The schema that is to follow it, likewise.
        level: `BACKWARD`, `FORWARD` or `FULL`.
        kind: `JSON` or `AVRO`.

    Returns:
        The differences that break the level; empty when the schemas are compatible.

    Raises:
        SchemaError: A schema cannot be read, or is nested too deep.
        ValueError: There is no such level or kind.
    """
    wanted, language = Level(level), SchemaKind(kind)
    before, after = _read(old, language), _read(new, language)
    found: list[Difference] = []
    if wanted in {Level.BACKWARD, Level.FULL}:
        found += _reading(before, after, language)
    if wanted in {Level.FORWARD, Level.FULL}:
        turned = _reading(after, before, language)
        found += [replace(difference, breaks=Level.FORWARD) for difference in turned]
    return found


def _reading(written: Any, reader: Any, kind: SchemaKind) -> list[Difference]:
    try:
        if kind is SchemaKind.AVRO:
            return AvroReading(written, reader).differences()
        return JsonReading(written, reader).differences()
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        # Foreign schemas may be wrong in any place; what is right is the author's to find out.
        raise SchemaError(f"no valid {kind} schema: {type(exc).__name__}: {exc}") from None


def _read(schema: Any, kind: SchemaKind) -> Any:
    if not isinstance(schema, str | bytes):
        return schema
    try:
        return json.loads(schema)
    except (ValueError, RecursionError) as exc:
        if kind is SchemaKind.AVRO and isinstance(schema, str) and schema.isidentifier():
            return schema
        raise SchemaError(f"the schema is no JSON: {exc}") from None

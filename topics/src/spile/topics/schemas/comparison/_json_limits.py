"""Keywords of JSON Schema that limit single values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
"""The types of JSON Schema; an integer is a number too."""

_LEAST: Final = {
    "minLength": "string",
    "minItems": "array",
    "minProperties": "object",
    "minContains": "array",
}
_MOST: Final = {
    "maxLength": "string",
    "maxItems": "array",
    "maxProperties": "object",
    "maxContains": "array",
}
_EXACT: Final = {
    "pattern": "string",
    "format": "string",
    "contentEncoding": "string",
    "contentMediaType": "string",
}


_SIZED: Final = {**_LEAST, **_MOST, **_EXACT}

LIMITS: Final = frozenset(
    {
        *_SIZED,
        *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
        *("uniqueItems", "dependentRequired"),
    }
)
"""The keywords that `limits` knows."""


def same(left: Any, right: Any) -> bool:
    """Say whether two JSON values are the same; 1 and true are not."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows."""
    stated: Any = schema.get("type")
    if stated is None:
        if "const" in schema:
            return [_type_of(schema["const"])]
        if "enum" in schema:
            return sorted({_type_of(value) for value in schema["enum"]})
        return list(TYPES)
    listed = cast("list[str]", stated if isinstance(stated, list) else [stated])
    return [kind for kind in listed if not (kind == "integer" and "number" in listed)]


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def limits(written: Mapping[str, Any], reader: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield rule and message of every limit of the reader that written values may break."""
    types = {"number" if kind == "integer" else kind for kind in types_of(written)}
    stated = {keyword for keyword, kind in _SIZED.items() if kind in types and keyword in reader}
    for keyword in (keyword for keyword in _LEAST if keyword in stated):
        if written.get(keyword, 0) < reader[keyword]:
            yield keyword, f"may be below {keyword} {reader[keyword]}"
    for keyword in (keyword for keyword in _MOST if keyword in stated):
        if keyword not in written or written[keyword] > reader[keyword]:
            yield keyword, f"may be above {keyword} {reader[keyword]}"
    for keyword in (keyword for keyword in _EXACT if keyword in stated):
        if written.get(keyword) != reader[keyword]:
            yield keyword, f"may break the {keyword} {str(reader[keyword])[:80]!r}"
    yield from _structure_limits(written, reader, types)


def _structure_limits(
    written: Mapping[str, Any], reader: Mapping[str, Any], types: set[str]
) -> Iterator[tuple[str, str]]:
    if "number" in types:
        yield from _number_limits(written, reader)
    if "array" in types and reader.get("uniqueItems") and not written.get("uniqueItems"):
        yield "uniqueItems", "may hold an item twice"
    if "object" in types:
        for name, needed in reader.get("dependentRequired", {}).items():
            if not set(needed) <= set(written.get("dependentRequired", {}).get(name, ())):
                yield "dependentRequired", f"may lack what must stand beside {name}"


def _number_limits(
    written: Mapping[str, Any], reader: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for inclusive, exclusive, sign in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        wanted = _bound(reader, inclusive, exclusive, sign)
        given = _bound(written, inclusive, exclusive, sign)
        if wanted is not None and (given is None or given < wanted):
            side = "below" if sign > 0 else "above"
            keyword = exclusive if exclusive in reader else inclusive
            yield keyword, f"may be {side} {keyword} {reader[keyword]}"
    step = reader.get("multipleOf")
    if step is not None and (not (own := written.get("multipleOf")) or own % step):
        yield "multipleOf", f"may be no multiple of {step}"


def _bound(
    schema: Mapping[str, Any], inclusive: str, exclusive: str, sign: int
) -> tuple[float, bool] | None:
    """Return a bound so that the larger one is the stricter one."""
    stated = [
        (sign * schema[keyword], keyword == exclusive)
        for keyword in (inclusive, exclusive)
        if isinstance(schema.get(keyword), (int, float)) and not isinstance(schema[keyword], bool)
    ]
    return max(stated) if stated else None


def accepts(schema: Mapping[str, Any], value: Any, written: Mapping[str, Any]) -> bool:
    """
    Say whether a schema without fields and items accepts a value.

    Patterns and formats are not run, which may take for ever: the value keeps to those that the
    writer's schema names.
    """
    kind = _type_of(value)
    types = types_of(schema)
    if kind not in types and not (kind == "integer" and "number" in types):
        return False
    if "const" in schema and not same(schema["const"], value):
        return False
    if "enum" in schema and not any(same(one, value) for one in schema["enum"]):
        return False
    return not any(limits(_as_schema(value, written), schema))


def _as_schema(value: Any, written: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe one value as narrowly as a schema can."""
    exact = {key: written[key] for key in _EXACT if key in written}
    kind = _type_of(value)
    if kind in {"number", "integer"}:
        return {"type": kind, "minimum": value, "maximum": value, "multipleOf": value or None}
    size = {"string": "Length", "array": "Items", "object": "Properties"}.get(kind)
    if size is None:
        return {"type": kind}
    return {**exact, "type": kind, f"min{size}": len(value), f"max{size}": len(value)}

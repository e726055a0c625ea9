"""Whether everything that one JSON Schema accepts is accepted by another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final, TypeAlias, cast

from spile.spi import SchemaError
from spile.topics.schemas.comparison._difference import Difference, join
from spile.topics.schemas.comparison._json_limits import (
    LIMITS,
    TYPES,
    accepts,
    limits,
    same,
    types_of,
)

Schema: TypeAlias = Mapping[str, Any] | bool

_MAX_DEPTH: Final = 64
_EITHER: Final = ("oneOf", "anyOf")
_ANNOTATIONS: Final = frozenset(
    {
        *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "title"),
        *("description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        "discriminator",
    }
)
_TAKEN_APART: Final = frozenset(
    {
        *("$ref", "allOf", "anyOf", "oneOf", "not", "type", "const", "enum"),
        *("properties", "patternProperties", "additionalProperties", "propertyNames"),
        *("required", "dependentSchemas", "items", "prefixItems", "additionalItems"),
    }
)


class JsonReading:
    """
    A comparison of what is written by one JSON Schema with what a reader's one accepts.

    The verdict is on the safe side: what cannot be shown to be accepted counts as refused. `oneOf`
    is read as `anyOf`: that a value could fit two branches at once is not looked for. An object
    without `additionalProperties` is open, and its unnamed fields may hold anything.

    Args:
        written: The schema of the writer; its references are looked up in it.
        reader: The schema of the reader, likewise.
    """

    def __init__(self, written: Schema, reader: Schema) -> None:
        self._written = written
        self._reader = reader
        self._under_way: set[tuple[str, str]] = set()

    def differences(self) -> list[Difference]:
        """
        Return where the reader refuses what may be written.

        Raises:
            SchemaError: A schema is nested too deep, or refers to what is not in it.
        """
        return self.compare(self._written, self._reader, "")

    def compare(
        self, written: Schema, reader: Schema, path: str, depth: int = 0
    ) -> list[Difference]:
        """
        Return where a part of the reader's schema refuses what a part of the writer's allows.

        Raises:
            SchemaError: A schema is nested too deep, or refers to what is not in it.
        """
        if depth > _MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {_MAX_DEPTH} levels at {path}")
        pair = (_ref(written), _ref(reader))
        if any(pair):
            if pair in self._under_way:
                return []
            self._under_way.add(pair)
            try:
                found = resolve(written, self._written), resolve(reader, self._reader)
                return self.compare(*found, path, depth + 1)
            finally:
                self._under_way.discard(pair)
        if reader is True or written is False:
            return []
        if reader is False:
            return [_refused(path, "closed", "is no longer read")]
        whole: Mapping[str, Any] = {} if written is True else written
        return self._by_parts(whole, reader, path, depth + 1)

    def _by_parts(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        """Take the combining keywords apart: first the writer's choices, then the reader's."""
        for keyword in _EITHER:
            if keyword in written:
                rest = _without(written, keyword)
                return _unique(
                    difference
                    for branch in written[keyword]
                    for difference in self.compare(
                        _merged(rest, resolve(branch, self._written)), reader, path, depth
                    )
                )
        if "allOf" in written:
            merged: Schema = _without(written, "allOf")
            for part in written["allOf"]:
                merged = _merged(merged, resolve(part, self._written))
            return self.compare(merged, reader, path, depth)
        found: list[Difference] = []
        for part in reader.get("allOf", ()):
            found += self.compare(written, part, path, depth)
        for keyword in _EITHER:
            if keyword in reader:
                found += self._some(written, reader[keyword], path, depth)
        found += self._not(written, reader, path, depth)
        plain = _without(reader, "allOf", "not", *_EITHER)
        return _unique([*found, *self._plain(written, plain, path, depth)])

    def _some(
        self, written: Mapping[str, Any], branches: list[Schema], path: str, depth: int
    ) -> list[Difference]:
        attempts = [self.compare(written, branch, path, depth) for branch in branches]
        if any(not attempt for attempt in attempts):
            return []
        types = types_of(written)
        if len(types) > 1 and "enum" not in written:
            return _unique(
                difference
                for kind in types
                for difference in self._some({**written, "type": kind}, branches, path, depth)
            )
        if not attempts:
            return [_refused(path, "anyOf", "fits no alternative")]
        closest = min(attempts, key=len)
        return closest if len(attempts) == 1 else [_no_branch(path, closest)]

    def _not(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        if "not" not in reader:
            return []
        turned = JsonReading(self._reader, self._written)
        if "not" in written and not turned.compare(reader["not"], written["not"], path, depth):
            return []
        return [_refused(path, "not", "may be what the reader excludes")]

    def _plain(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        if "const" in written or "enum" in written:
            values = [written["const"]] if "const" in written else written["enum"]
            fields = {"properties", "items", "prefixItems", "additionalProperties"}
            if not fields & set(reader):
                wrong = [value for value in values if not accepts(reader, value, written)]
                return [_values(path, wrong)] if wrong else []
        elif "const" in reader or "enum" in reader:
            return [_refused(path, "enum", "may be a value that the reader does not list")]
        found = _types(written, reader, path)
        if not found:
            found = [_refused(path, rule, text) for rule, text in limits(written, reader)]
        if "object" in types_of(written):
            found += self._object(written, reader, path, depth)
        if "array" in types_of(written):
            found += self._array(written, reader, path, depth)
        return found + _unproven(written, reader, path)

    def _object(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        if "object" not in types_of(reader):
            return []
        there: list[str] = written.get("required", [])
        found = [
            _refused(join(path, name), "required", "may be absent, and the reader requires it")
            for name in reader.get("required", ())
            if name not in there
        ]
        for name in {**written.get("properties", {}), **reader.get("properties", {})}:
            for source, target in product(_said(written, name), _asked(written, reader, name)):
                found += self.compare(source, target, join(path, name), depth)
        found += self._names(written, reader, path, depth)
        names = written.get("propertyNames", True), reader.get("propertyNames", True)
        found += self.compare(*names, join(path, "<name>"), depth)
        for name, schema in reader.get("dependentSchemas", {}).items():
            own = written.get("dependentSchemas", {}).get(name, True)
            found += self.compare(own, schema, path, depth)
        return found

    def _names(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        """Compare what holds for fields by pattern, and for all others."""
        ours, theirs = _patterns(written), _patterns(reader)
        rest, others = _others(written), _others(reader)
        pairs = [("<other>", rest, others)]
        for pattern, schema in theirs.items():
            sources = [ours[pattern]] if pattern in ours else [rest, *ours.values()]
            pairs += [(f"<{pattern}>", source, schema) for source in sources]
        pairs += [(f"<{own}>", ours[own], others) for own in ours if own not in theirs]
        return [
            difference
            for name, source, target in pairs
            for difference in self.compare(source, target, join(path, name), depth)
        ]

    def _array(
        self, written: Mapping[str, Any], reader: Mapping[str, Any], path: str, depth: int
    ) -> list[Difference]:
        if "array" not in types_of(reader):
            return []
        found: list[Difference] = []
        ours, rest = _items(written)
        theirs, others = _items(reader)
        for index in range(max(len(ours), len(theirs))):
            source = ours[index] if index < len(ours) else rest
            target = theirs[index] if index < len(theirs) else others
            found += self.compare(source, target, f"{path}[{index}]", depth)
        return found + self.compare(rest, others, f"{path}[]", depth)


def resolve(schema: Schema, root: Schema) -> Schema:
    """
    Follow the references of a schema inside its document.

    Raises:
        SchemaError: A reference leads out of the document, nowhere, or in a circle.
    """
    seen: set[str] = set()
    while ref := _ref(schema):
        if ref in seen:
            raise SchemaError(f"the reference {ref[:80]!r} leads in a circle")
        seen.add(ref)
        target = _follow(ref, root)
        beside = _without(cast("Mapping[str, Any]", schema), "$ref")
        schema = _merged(beside, target) if set(beside) - _ANNOTATIONS else target
    return schema


def _items(schema: Mapping[str, Any]) -> tuple[list[Schema], Schema]:
    items: Any = schema.get("items", True)
    if isinstance(items, list):  # up to draft 2019-09
        return cast("list[Schema]", items), schema.get("additionalItems", True)
    return schema.get("prefixItems", []), items


def _patterns(schema: Mapping[str, Any]) -> Mapping[str, Schema]:
    return schema.get("patternProperties", {})


def _said(written: Mapping[str, Any], name: str) -> list[Schema]:
    """Return what a field may hold by the writer's schema; patterns are not run, any may match."""
    properties: Mapping[str, Schema] = written.get("properties", {})
    if name in properties:
        return [properties[name]]
    return [_others(written), *_patterns(written).values()]


def _asked(written: Mapping[str, Any], reader: Mapping[str, Any], name: str) -> list[Schema]:
    """Return all that the reader's schema may ask of a field."""
    properties: Mapping[str, Schema] = reader.get("properties", {})
    known = _patterns(written)
    fresh = [schema for pattern, schema in _patterns(reader).items() if pattern not in known]
    return [properties[name] if name in properties else _others(reader), *fresh]


def _others(schema: Mapping[str, Any]) -> Schema:
    return schema.get("additionalProperties", True)


def _ref(schema: Schema) -> str:
    return "" if isinstance(schema, bool) else str(schema.get("$ref", ""))


def _follow(ref: str, root: Schema) -> Schema:
    if not ref.startswith("#"):
        raise SchemaError(f"the reference {ref[:80]!r} leads out of the schema")
    found: Any = root
    for step in ref[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise SchemaError(f"the reference {ref[:80]!r} leads nowhere")
        found = cast("Mapping[str, Any]", found)[name]
    return cast("Schema", found)


def _without(schema: Mapping[str, Any], *keywords: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keywords}


def _merged(left: Schema, right: Schema) -> Schema:
    """Return what both ask for; where both say the same keyword, as a conjunction."""
    if left is False or right is False:
        return False
    if left is True or right is True or not left or not right:
        return right if left is True or not left else left
    clash = {key for key in left if key in right and left[key] != right[key]} - _ANNOTATIONS
    merged = {**left, **right}
    for key in clash:
        merged[key] = _both(key, left[key], right[key])
    return merged


def _both(key: str, left: Any, right: Any) -> Any:
    # Either side alone is a weaker statement about the writer: the verdict stays on the safe side.
    if key == "required":
        return sorted({*left, *right})
    if key == "properties":
        return {**left, **{name: _merged(left.get(name, True), right[name]) for name in right}}
    if key == "type":
        both = [kind for kind in TYPES if kind in _list(left) and kind in _list(right)]
        return both or right
    return right


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _refused(path: str, rule: str, message: str) -> Difference:
    return Difference(path=path, rule=rule, message=message)


def _no_branch(path: str, closest: list[Difference]) -> Difference:
    return _refused(path, "anyOf", f"fits no alternative of the reader: {closest[0]}")


def _values(path: str, values: list[Any]) -> Difference:
    shown = ", ".join(repr(value)[:40] for value in values[:5])
    return _refused(path, "enum", f"may be {shown}, which the reader refuses")


def _types(written: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> list[Difference]:
    ours, theirs = types_of(written), types_of(reader)
    wrong = [
        kind
        for kind in ours
        if kind not in theirs and not (kind == "integer" and "number" in theirs)
    ]
    if not wrong:
        return []
    given = "anything" if len(ours) == len(TYPES) else " or ".join(ours)
    return [_refused(path, "type", f"may be {given}, the reader takes {' or '.join(theirs)}")]


def _unproven(written: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> list[Difference]:
    return [
        _refused(path, keyword, f"has another {keyword!r}, which may refuse it")
        for keyword in sorted(set(reader) - _TAKEN_APART - _ANNOTATIONS - LIMITS)
        if not keyword.startswith("x-") and not same(written.get(keyword), reader[keyword])
    ]


def _unique(found: Iterator[Difference] | list[Difference] | Any) -> list[Difference]:
    return list(dict.fromkeys(found))

"""Avro schemas as a checked tree: no recursion, bounded size, names resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from spile.spi import SchemaError

MAX_SCHEMA_DEPTH: Final = 32
"""Deepest nesting of records, arrays and maps."""

MAX_SCHEMA_VALUES: Final = 10_000
"""Most values that one datum can have outside its arrays and maps."""

MAX_NAME_LENGTH: Final = 256
"""
Most characters of a name of a type or a field, and of a symbol.

In Avro a name costs nothing, in JSON it stands in each of 300,000 values: without a bound a record
of 100 KB becomes 6 GB.
"""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_SMALLEST: Final[Mapping[str, int]] = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
_LOGICAL: Final = {
    ("string", "uuid"),
    ("string", "json"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-millis"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AvroField:
    """
    One field of a record.

    Attributes:
        name: Its name.
        type: Its type.
        has_default: Whether a datum without the field gets a default.
        default: The default, as JSON.
    """

    name: str
    type: AvroType
    has_default: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AvroType:
    """
    One type of a schema, compared by identity: a named type is one object however often it is used.

    Attributes:
        kind: `record`, `union`, `enum`, `fixed`, `array`, `map` or a primitive's name.
        smallest: Fewest bytes of a datum.
        values: Most values of a datum outside its arrays and maps.
        logical: `uuid`, `json`, `timestamp-micros` or `timestamp-millis` where it applies.
        name: Full name of a record, enum or fixed.
        fields: Of a record.
        branches: Of a union.
        symbols: Of an enum.
        items: Of an array or a map.
        size: Bytes of a fixed.
    """

    kind: str
    smallest: int
    values: int = 1
    logical: str | None = None
    name: str = ""
    fields: tuple[AvroField, ...] = ()
    branches: tuple[AvroType, ...] = ()
    symbols: tuple[str, ...] = ()
    items: AvroType | None = None
    size: int = 0


@dataclass(slots=True)
class SchemaReader:
    """Reads one schema; keeps what is defined so far."""

    named: dict[str, AvroType] = field(default_factory=dict[str, AvroType])
    open: set[str] = field(default_factory=set[str])
    depths: dict[str, int] = field(default_factory=dict[str, int])
    deepest: int = 0

    def read(  # noqa: PLR0911 - one return a kind
        self, schema: object, namespace: str = "", depth: int = 1
    ) -> AvroType:
        """
        Return the type that a part of a schema describes.

        Raises:
            SchemaError: It is no Avro schema, is recursive, or breaks a limit.
        """
        if depth > MAX_SCHEMA_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        self.deepest = max(self.deepest, depth)
        if isinstance(schema, str):
            return self._referred(schema, namespace, depth)
        if isinstance(schema, list):
            return self._union(cast("list[object]", schema), namespace, depth)
        if not isinstance(schema, dict):
            raise SchemaError(f"a schema is text, a list or an object, not {type(schema).__name__}")
        definition = cast("dict[str, Any]", schema)
        kind = definition.get("type")
        if kind in {"record", "error"}:
            return self._record(definition, namespace, depth)
        if kind == "enum":
            return self._enum(definition, namespace)
        if kind == "fixed":
            return self._fixed(definition, namespace)
        if kind in {"array", "map"}:
            return self._collection(str(kind), definition, namespace, depth)
        if isinstance(kind, str) and kind in _SMALLEST:
            return _primitive(kind, definition.get("logicalType"))
        return self.read(kind, namespace, depth + 1)

    def _referred(self, name: str, namespace: str, depth: int) -> AvroType:
        if name in _SMALLEST:
            return _primitive(name, None)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self.open:
            raise SchemaError(f"the schema is recursive: {full} holds itself")
        if full not in self.named:
            raise SchemaError(f"the schema uses {full[:200]!r}, which is not defined before")
        if depth + self.depths[full] > MAX_SCHEMA_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        return self.named[full]

    def _union(self, branches: list[object], namespace: str, depth: int) -> AvroType:
        found = tuple(self.read(branch, namespace, depth + 1) for branch in branches)
        keys = [branch.name or branch.kind for branch in found]
        if not found or len(set(keys)) != len(keys) or "union" in keys:
            raise SchemaError("a union needs branches of different types, and no union in it")
        smallest = 1 + min(branch.smallest for branch in found)
        return AvroType(
            kind="union",
            smallest=smallest,
            values=_counted(max(branch.values for branch in found)),
            branches=found,
        )

    def _collection(
        self, kind: str, definition: dict[str, Any], namespace: str, depth: int
    ) -> AvroType:
        items = self.read(
            definition.get("items" if kind == "array" else "values"), namespace, depth + 1
        )
        if kind == "array" and items.smallest == 0:
            raise SchemaError("an array whose items take no bytes has no bound, it is refused")
        return AvroType(kind=kind, smallest=1, items=items)

    def _record(self, definition: dict[str, Any], namespace: str, depth: int) -> AvroType:
        name, inner = self._name(definition, namespace)
        given = definition.get("fields")
        if not isinstance(given, list):
            raise SchemaError(f"record {name} has no list of fields")
        self.open.add(name)
        before, self.deepest = self.deepest, depth
        fields = tuple(
            self._field(name, part, inner, depth) for part in cast("list[object]", given)
        )
        self.depths[name] = self.deepest - depth
        self.deepest = max(before, self.deepest)
        self.open.remove(name)
        if len({part.name for part in fields}) != len(fields):
            raise SchemaError(f"record {name} has two fields of one name")
        made = AvroType(
            kind="record",
            name=name,
            fields=fields,
            smallest=sum(part.type.smallest for part in fields),
            values=_counted(1 + sum(part.type.values for part in fields)),
        )
        self.named[name] = made
        return made

    def _field(self, record: str, part: object, namespace: str, depth: int) -> AvroField:
        definition = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
        name = definition.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SchemaError(f"record {record} has a field without a valid name")
        _check_length(name)
        return AvroField(
            name=name,
            type=self.read(definition.get("type"), namespace, depth + 1),
            has_default="default" in definition,
            default=definition.get("default"),
        )

    def _enum(self, definition: dict[str, Any], namespace: str) -> AvroType:
        name, _ = self._name(definition, namespace)
        symbols = definition.get("symbols")
        if not isinstance(symbols, list) or not symbols:
            raise SchemaError(f"enum {name} has no symbols")
        texts = cast("list[object]", symbols)
        if not all(isinstance(text, str) and _NAME.fullmatch(text) for text in texts):
            raise SchemaError(f"enum {name} has a symbol that is no valid name")
        for text in cast("list[str]", texts):
            _check_length(text)
        if len(set(texts)) != len(texts):
            raise SchemaError(f"enum {name} has a symbol twice")
        made = AvroType(
            kind="enum", smallest=1, name=name, symbols=tuple(cast("list[str]", symbols))
        )
        self.named[name], self.depths[name] = made, 0
        return made

    def _fixed(self, definition: dict[str, Any], namespace: str) -> AvroType:
        name, _ = self._name(definition, namespace)
        size = definition.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise SchemaError(f"fixed {name} has no size")
        made = AvroType(kind="fixed", smallest=size, name=name, size=size)
        self.named[name], self.depths[name] = made, 0
        return made

    def _name(self, definition: dict[str, Any], namespace: str) -> tuple[str, str]:
        """Return the full name of a named type, and the namespace that holds inside it."""
        name, given = definition.get("name"), definition.get("namespace", namespace)
        if not isinstance(name, str) or not isinstance(given, str):
            raise SchemaError("a record, enum or fixed needs a name")
        _check_length(name)
        full = name if "." in name or not given else f"{given}.{name}"
        if not _FULL_NAME.fullmatch(full):
            raise SchemaError(f"{full[:200]!r} is no valid name of an Avro type")
        if full in self.named or full in self.open or full in _SMALLEST:
            raise SchemaError(f"the schema defines {full} twice")
        return full, full.rpartition(".")[0]


def _primitive(kind: str, logical: object) -> AvroType:
    known = isinstance(logical, str) and (kind, logical) in _LOGICAL
    return AvroType(
        kind=kind, smallest=_SMALLEST[kind], logical=cast("str", logical) if known else None
    )


def _check_length(name: str) -> None:
    if len(name) > MAX_NAME_LENGTH:
        raise SchemaError(
            f"a name or symbol of the schema has {len(name)} characters, limit {MAX_NAME_LENGTH}"
        )


def _counted(values: int) -> int:
    if values > MAX_SCHEMA_VALUES:
        raise SchemaError(f"a datum of the schema can have more than {MAX_SCHEMA_VALUES} values")
    return values

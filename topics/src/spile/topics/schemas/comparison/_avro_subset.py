"""Whether a reader's Avro schema resolves everything that is written by another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from spile.spi import SchemaError
from spile.topics.schemas.comparison._difference import Difference, join

Avro: TypeAlias = str | Mapping[str, Any] | list[Any]

_MAX_DEPTH: Final = 64
_PRIMITIVES: Final = frozenset(
    {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
)
_PROMOTIONS: Final = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})


class AvroReading:
    """
    A comparison of what is written by one Avro schema with what a reader's one resolves.

    Source: Avro specification, Schema Resolution; a union is resolved branch by branch, all of
    which must be readable.

    Args:
        written: The schema of the writer.
        reader: The schema of the reader.

    Raises:
        SchemaError: A schema is none, or names a type that it does not define.
    """

    def __init__(self, written: Avro, reader: Avro) -> None:
        self._written_root = written
        self._reader_root = reader
        self._written = _Names(written)
        self._reader = _Names(reader)
        self._under_way: set[tuple[str, str]] = set()

    def differences(self) -> list[Difference]:
        """
        Return where the reader cannot resolve what may be written.

        Raises:
            SchemaError: A schema is nested too deep, or names a type that it does not define.
        """
        pair = _Typed(self._written_root, ""), _Typed(self._reader_root, "")
        return list(dict.fromkeys(self._compare(*pair, "", 0)))

    def _compare(self, written: _Typed, reader: _Typed, path: str, depth: int) -> list[Difference]:
        if depth > _MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {_MAX_DEPTH} levels at {path}")
        written, reader = self._written.resolved(written), self._reader.resolved(reader)
        if isinstance(written.schema, list):
            return [
                difference
                for branch in written.schema
                for difference in self._compare(
                    _Typed(branch, written.space), reader, path, depth + 1
                )
            ]
        if isinstance(reader.schema, list):
            return self._union(written, reader, path, depth)
        ours, theirs = written.kind, reader.kind
        if ours != theirs:
            if (ours, theirs) in _PROMOTIONS:
                return []
            return [_refused(path, "type", f"may be {ours}, the reader takes {theirs}")]
        if ours in _NAMED and not reader.goes_by(written.name):
            return [_refused(path, "name", f"is {written.name}, the reader knows {reader.name}")]
        return self._same_kind(written, reader, path, depth)

    def _same_kind(
        self, written: _Typed, reader: _Typed, path: str, depth: int
    ) -> list[Difference]:
        ours, theirs = written.mapping, reader.mapping
        match written.kind:
            case "record" | "error":
                return self._record(written, reader, path, depth)
            case "enum":
                return _enum(ours, theirs, path)
            case "fixed" if ours.get("size") != theirs.get("size"):
                text = f"has {ours.get('size')} bytes, the reader takes {theirs.get('size')}"
                return [_refused(path, "size", text)]
            case "array":
                items = _Typed(ours["items"], written.space), _Typed(theirs["items"], reader.space)
                return self._compare(*items, f"{path}[]", depth + 1)
            case "map":
                values = (
                    _Typed(ours["values"], written.space),
                    _Typed(theirs["values"], reader.space),
                )
                return self._compare(*values, f"{path}{{}}", depth + 1)
            case _:
                return []

    def _union(self, written: _Typed, reader: _Typed, path: str, depth: int) -> list[Difference]:
        branches = [_Typed(branch, reader.space) for branch in cast("list[Any]", reader.schema)]
        attempts = [self._compare(written, branch, path, depth + 1) for branch in branches]
        if any(not attempt for attempt in attempts):
            return []
        kinds = [self._reader.resolved(branch).kind for branch in branches]
        alike = [
            attempt for attempt, kind in zip(attempts, kinds, strict=True) if kind == written.kind
        ]
        if alike:
            return min(alike, key=len)
        return [_refused(path, "union", f"may be {written.kind}, no branch of the reader fits")]

    def _record(self, written: _Typed, reader: _Typed, path: str, depth: int) -> list[Difference]:
        pair = (written.name, reader.name)
        if pair in self._under_way:
            return []
        self._under_way.add(pair)
        try:
            return self._fields(written, reader, path, depth)
        finally:
            self._under_way.discard(pair)

    def _fields(self, written: _Typed, reader: _Typed, path: str, depth: int) -> list[Difference]:
        ours = {str(field["name"]): field for field in written.mapping["fields"]}
        found: list[Difference] = []
        for field in reader.mapping["fields"]:
            name = str(field["name"])
            source = next((ours[n] for n in (name, *field.get("aliases", ())) if n in ours), None)
            if source is None:
                if "default" not in field:
                    text = "is not written, and the reader has no default for it"
                    found.append(_refused(join(path, name), "default", text))
                continue
            types = _Typed(source["type"], written.space), _Typed(field["type"], reader.space)
            found += self._compare(*types, join(path, name), depth + 1)
        return found


class _Typed:
    """A schema and the namespace that it stands in."""

    def __init__(self, schema: Avro, space: str) -> None:
        if isinstance(schema, Mapping):
            stated = schema.get("namespace")
            name = str(schema.get("name", ""))
            if "." in name:
                stated = name.rpartition(".")[0]
            space = str(stated) if stated is not None else space
        self.schema = schema
        self.space = space

    @property
    def mapping(self) -> Mapping[str, Any]:
        return self.schema if isinstance(self.schema, Mapping) else {}

    @property
    def kind(self) -> str:
        if isinstance(self.schema, list):
            return "union"
        return self.schema if isinstance(self.schema, str) else str(self.schema["type"])

    @property
    def name(self) -> str:
        return _full(str(self.mapping.get("name", "")), self.space)

    def goes_by(self, name: str) -> bool:
        """Say whether this is a type's name or alias; namespaces do not count."""
        aliases: list[str] = self.mapping.get("aliases", [])
        return _short(name) in {_short(known) for known in (self.name, *aliases)}


class _Names:
    """The named types that a schema defines."""

    def __init__(self, schema: Avro) -> None:
        self._known: dict[str, _Typed] = {}
        self._collect(_Typed(schema, ""), 0)

    def _collect(self, typed: _Typed, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {_MAX_DEPTH} levels")
        schema = typed.schema
        parts: list[Any] = []
        if isinstance(schema, list):
            parts = schema
        elif isinstance(schema, Mapping):
            kind = schema.get("type")
            if kind in _NAMED:
                self._known[typed.name] = typed
            parts = [schema[key] for key in ("items", "values") if key in schema]
            fields: list[Mapping[str, Any]] = schema.get("fields", [])
            parts += [field["type"] for field in fields]
            if not isinstance(kind, str):
                parts.append(kind)
        for part in parts:
            self._collect(_Typed(part, typed.space), depth + 1)

    def resolved(self, typed: _Typed) -> _Typed:
        schema = typed.schema
        if isinstance(schema, Mapping) and not (
            isinstance(schema.get("type"), str) and schema["type"] in _NAMED | {"array", "map"}
        ):
            # {"type": "string"} and {"type": {...}} are what stands inside.
            return self.resolved(_Typed(schema.get("type", ""), typed.space))
        if isinstance(schema, str) and schema not in _PRIMITIVES:
            found = self._known.get(_full(schema, typed.space)) or self._known.get(schema)
            if found is None:
                raise SchemaError(f"the schema names the type {schema[:80]!r}, and has none such")
            return found
        return typed


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _enum(written: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> list[Difference]:
    unknown = [symbol for symbol in written["symbols"] if symbol not in reader["symbols"]]
    if not unknown or "default" in reader:
        return []
    return [_refused(path, "enum", f"may be {', '.join(unknown[:5])}, the reader has no such")]


def _refused(path: str, rule: str, message: str) -> Difference:
    return Difference(path=path, rule=rule, message=message)

"""
Writing Avro strictly: msgspec checks and completes a value, fastavro writes it.

fastavro alone writes what is not of the schema: booleans and numbers for one another, ints of more
than 32 bits, any text for null; and it drops fields that it does not know. So each schema becomes
a msgspec type of the same meaning, and fastavro gets only what that type took.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from operator import attrgetter
from types import ModuleType
from typing import Annotated, Any, ClassVar, Final, Literal, cast
from uuid import UUID

import msgspec
from msgspec import Meta

from spile.spi import ConfigurationError, SchemaError
from spile.topics._json import find_non_finite, is_deeper, json_encoder
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics.encodings.avro._types import AvroField, AvroType

_LARGEST: Final = sys.float_info.max
_LARGEST_FLOAT: Final = (2 - 2**-23) * 2.0**127
_KEPT: Final = (bytes, bytearray, datetime)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {
    "timestamp-micros": timedelta(microseconds=1),
    "timestamp-millis": timedelta(milliseconds=1),
}
_PROBLEMS: Final = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
"""What msgspec and fastavro raise on a value that they do not take; msgspec's own errors too."""


class _JsonText:
    """What a caller's JSON is on the way through msgspec: its text."""

    __slots__ = ("given",)

    def __init__(self, value: object) -> None:
        try:
            data = json_encoder.encode(value)
        except _PROBLEMS:
            raise ValueError("expected JSON") from None
        if b"null" in data and find_non_finite(value) is not None:
            raise ValueError("expected JSON of finite numbers")
        if is_deeper(data, MAX_JSON_DEPTH):
            raise ValueError(f"expected JSON of at most {MAX_JSON_DEPTH} levels")
        self.given = data.decode()


class _Branch:
    """
    A value in a union, on the way through msgspec: the branch that takes it, and the value.

    Each union has a subclass, which knows the branches.
    """

    __slots__ = ("given",)
    branches: ClassVar[tuple[tuple[str, Any], ...]]

    def __init__(self, value: object) -> None:
        for name, type_ in self.branches:
            try:
                self.given = (name, {"value": convert(value, type_)})
            except _PROBLEMS:
                continue
            return
        raise ValueError("no branch of the union takes it")


def _make(type_: Callable[[object], Any], value: object) -> Any:
    """Make what msgspec does not know by itself."""
    return type_(value)


convert: Final = partial(msgspec.convert, dec_hook=_make)
"""Returns a Python value as the given type; raises one of `_PROBLEMS` when it is none."""

_TYPES: Final[dict[tuple[str, str | None], Any]] = {
    ("null", None): None,
    ("boolean", None): bool,
    ("int", None): Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    ("long", None): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    ("float", None): Annotated[float, Meta(ge=-_LARGEST_FLOAT, le=_LARGEST_FLOAT)],
    ("double", None): Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)],
    ("bytes", None): bytes,
    ("string", None): str,
    ("string", "uuid"): UUID,
    ("string", "json"): _JsonText,
    ("long", "timestamp-micros"): Annotated[datetime, Meta(tz=True)],
    ("long", "timestamp-millis"): Annotated[datetime, Meta(tz=True)],
}


class MismatchError(Exception):
    """
    Raised inside this package when a value is not of its type.

    Attributes:
        path: Where, from the inside out.
    """

    def __init__(self, why: str, *path: str) -> None:
        super().__init__(why)
        self.path = list(path)


@dataclass(slots=True)
class _Translation:
    """
    Translates a schema for msgspec and for fastavro.

    Named types are numbered for fastavro: bytes hold no names, and numbers need no namespaces.
    """

    types: dict[AvroType, Any] = field(default_factory=dict[AvroType, Any])
    names: dict[AvroType, str] = field(default_factory=dict[AvroType, str])
    chosen: dict[AvroType, type[_Branch]] = field(default_factory=dict[AvroType, type[_Branch]])

    def type_of(self, node: AvroType) -> Any:
        found = self.types.get(node, self)
        if found is self:
            found = self.types[node] = self._type(node)
        return found

    def _type(self, node: AvroType) -> Any:  # noqa: PLR0911 - one return a kind
        match node.kind:
            case "record":
                return self._struct(node)
            case "union":
                return self._union(node)
            case "enum":
                return Literal[node.symbols]
            case "fixed":
                return Annotated[bytes, Meta(min_length=node.size, max_length=node.size)]
            case "array":
                return list[self.type_of(cast("AvroType", node.items))]
            case "map":
                return dict[str, self.type_of(cast("AvroType", node.items))]
            case _:
                return _TYPES[node.kind, node.logical]

    def _struct(self, node: AvroType) -> type[msgspec.Struct]:
        fields: list[Any] = []
        for index, part in enumerate(node.fields):
            type_ = self.type_of(part.type)
            if part.has_default:
                given = _default(part, type_, node.name)
                fields.append(
                    (f"f{index}", type_, msgspec.field(default_factory=lambda v=given: v))
                )
            else:
                fields.append((f"f{index}", type_))
        return msgspec.defstruct(
            "Record",
            fields,
            rename={f"f{index}": part.name for index, part in enumerate(node.fields)},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )

    def _union(self, node: AvroType) -> Any:
        types = [self.type_of(branch) for branch in node.branches]
        may_be_null, last = types[0] is None, node.branches[-1]
        if may_be_null and len(types) == 2 and not last.fields and last.items is None:  # noqa: PLR2004 - null and a scalar
            return types[1] | None
        named = enumerate(types[1:] if may_be_null else types)
        branches = tuple((f"U{len(self.chosen)}_{n}", type_) for n, type_ in named)
        made = type("Branch", (_Branch,), {"__slots__": (), "branches": branches})
        self.chosen[node] = made
        return made | None if may_be_null else made

    def schema_of(self, node: AvroType) -> Any:  # noqa: PLR0911 - one return a kind
        """Return the schema for fastavro; of logical types it keeps times alone."""
        if node.kind == "union":
            return self._union_schema(node)
        if node.items is not None:
            key = "items" if node.kind == "array" else "values"
            return {"type": node.kind, key: self.schema_of(node.items)}
        if not node.name:
            is_time = node.logical is not None and node.kind == "long"
            return {"type": node.kind, "logicalType": node.logical} if is_time else node.kind
        if node in self.names:
            return self.names[node]
        name = self.names[node] = f"T{len(self.names)}"
        if node.kind == "enum":
            return {"type": "enum", "name": name, "symbols": list(node.symbols)}
        if node.kind == "fixed":
            return {"type": "fixed", "name": name, "size": node.size}
        return _record_of(name, {part.name: self.schema_of(part.type) for part in node.fields})

    def _union_schema(self, node: AvroType) -> list[Any]:
        branches = [self.schema_of(branch) for branch in node.branches]
        chosen = self.chosen.get(node)
        if chosen is None:
            return branches
        # Told the name of a branch fastavro tries none; it finds names of records everywhere, and a
        # record adds no bytes.
        start = len(branches) - len(chosen.branches)
        return branches[:start] + [
            _record_of(name, {"value": branch})
            for (name, _), branch in zip(chosen.branches, branches[start:], strict=True)
        ]


def _record_of(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    parts = [{"name": part, "type": type_} for part, type_ in fields.items()]
    return {"type": "record", "name": name, "fields": parts}


def _default(part: AvroField, type_: Any, record: str) -> Any:
    try:
        return convert(_value_of(part.default, part.type), type_)
    except _PROBLEMS:
        raise SchemaError(f"the default of {record}.{part.name} is not of its type") from None


def _value_of(default: Any, node: AvroType) -> Any:  # noqa: PLR0911 - one return a kind
    """
    Return what a default stands for: in a schema it is written as it is stored.

    Source: Apache Avro specification 1.12, "Complex Types", the table of defaults.
    """
    match node.kind, default:
        case "union", None:
            return None
        case "union", _:
            return _value_of(default, node.branches[0])
        case "bytes" | "fixed", str():
            return default.encode("latin-1", "replace")
        case "string", str() if node.logical == "json":
            return msgspec.json.decode(default)
        case "long", int() if node.logical is not None and not isinstance(default, bool):
            return _EPOCH + _UNITS[node.logical] * default
        case "array", list():
            items = cast("AvroType", node.items)
            return [_value_of(item, items) for item in cast("list[Any]", default)]
        case "map", dict():
            entries, items = cast("dict[str, Any]", default), cast("AvroType", node.items)
            return {key: _value_of(item, items) for key, item in entries.items()}
        case "record", dict():
            given, types = cast("dict[str, Any]", default), {p.name: p.type for p in node.fields}
            return {
                name: _value_of(item, types[name]) if name in types else item
                for name, item in given.items()
            }
        case _:
            return default


class Writer:
    """
    Writes the values of one schema.

    Raises:
        SchemaError: A default is not of its field's type.
    """

    def __init__(self, root: AvroType) -> None:
        self._root = root
        self._translation = _Translation()
        self._type = self._translation.type_of(root)
        self._decoder = msgspec.json.Decoder(self._type, dec_hook=_make)

    def write(self, value: Any) -> bytes:
        """
        Return a value as Avro.

        Raises:
            MismatchError: It is not of the schema.
            ConfigurationError: fastavro is not installed.
        """
        fastavro = load_fastavro()
        try:
            return self._bytes_of(convert(value, self._type), fastavro)
        except _PROBLEMS:
            self._blame(self._root, value)
            raise MismatchError("is not of the schema") from None

    def write_json(self, data: bytes) -> bytes:
        """
        Return JSON as Avro.

        Raises:
            MismatchError: It is not of the schema.
            ConfigurationError: fastavro is not installed.
            msgspec.DecodeError: It is no JSON.
            UnicodeDecodeError: It is no UTF-8.
            RecursionError: It is nested too deep.
        """
        fastavro = load_fastavro()
        try:
            return self._bytes_of(self._decoder.decode(data), fastavro)
        except _PROBLEMS:
            return self.write(msgspec.json.decode(data))

    def _bytes_of(self, checked: object, fastavro: ModuleType) -> bytes:
        plain = msgspec.to_builtins(checked, builtin_types=_KEPT, enc_hook=attrgetter("given"))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, {"value": plain})
        return out.getvalue()

    @cached_property
    def _schema(self) -> Any:
        # In a record, which adds no bytes: fastavro keeps what it parsed in an object only.
        root = self._translation.schema_of(self._root)
        return load_fastavro().parse_schema(_record_of("Datum", {"value": root}))

    def _blame(self, node: AvroType, value: Any) -> None:
        """
        Find what is wrong with a value that was refused.

        Raises:
            MismatchError: Found.
        """
        match node.kind:
            case "record" if isinstance(value, Mapping):
                self._blame_record(node, cast("Mapping[str, Any]", value))
            case "array" if isinstance(value, (list, tuple)):
                for index, item in enumerate(cast("list[Any]", value)):
                    self._blame_at(str(index), cast("AvroType", node.items), item)
            case "map" if isinstance(value, Mapping):
                for key, item in cast("Mapping[object, Any]", value).items():
                    if (why := _why(key, str)) is not None:
                        raise MismatchError(f"a key: {why}")
                    self._blame_at(str(key), cast("AvroType", node.items), item)
            case "union":
                type_of, parts = self._translation.type_of, node.branches
                fitting = (part for part in parts if _why(value, type_of(part)) is None)
                self._blame(next(fitting, parts[-1]), value)
            case "enum" if value not in node.symbols:
                raise MismatchError(f"expected one of {', '.join(node.symbols)[:200]}")
            case _:
                if (why := _why(value, self._translation.type_of(node))) is not None:
                    raise MismatchError(why)

    def _blame_record(self, node: AvroType, value: Mapping[str, Any]) -> None:
        for part in node.fields:
            if part.name in value:
                self._blame_at(part.name, part.type, value[part.name])
            elif not part.has_default:
                raise MismatchError("is missing", part.name)
        known = {part.name for part in node.fields}
        for name in value:
            if name not in known:
                raise MismatchError("is not in the schema", str(name)[:80])

    def _blame_at(self, name: str, node: AvroType, value: Any) -> None:
        try:
            self._blame(node, value)
        except MismatchError as exc:
            exc.path.append(name)
            raise


def _why(value: Any, type_: Any) -> str | None:
    """Return why a value is not of a type, without the value; None when it is."""
    try:
        convert(value, type_)
        if isinstance(value, str):
            value.encode()
    except UnicodeEncodeError:
        return "expected text without lone surrogates"
    except _PROBLEMS as exc:
        why = str(exc).replace("`", "")
        return why[:1].lower() + why[1:]
    return None


def load_fastavro() -> ModuleType:
    """
    Return fastavro.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import fastavro  # noqa: PLC0415 - an extra: who only reads Avro does without
    except ImportError:
        raise ConfigurationError("Avro needs the extra: pip install spile-topics[avro]") from None
    return fastavro

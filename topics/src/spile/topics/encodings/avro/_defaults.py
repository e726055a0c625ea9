"""The default of a model's field, as Avro writes it: what registries let compatible fields have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, cast

import msgspec
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

from spile.topics._json import find_non_finite

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGS: Final = range(-(2**63), 2**63)
_MADE_UP: Final = frozenset({"uuid", "timestamp-micros"})


class NoDefaultError(Exception):
    """Raised inside this package where Avro cannot express a default, or there is none."""


def avro_default(part: FieldInfo, type_: Any, named: Mapping[str, Any]) -> Any:
    """
    Return the default of a field as JSON, in the form that Avro wants.

    Args:
        part: The field.
        type_: Its Avro type.
        named: The definitions of records and enums that `type_` may name.

    Raises:
        NoDefaultError: The field is required, its default is made up at each call (an id, a time,
            a text), or it is not of the first branch of the field's union.

    Source: Apache Avro specification 1.11, "Complex Types": a union's default is of its first
        branch; 1.12 takes any, but readers of 1.11 are about.
    """
    if part.is_required():
        raise NoDefaultError
    if part.default_factory is None:
        return _Converter(named, is_made=False).convert(_plain(part.default), type_)
    if part.default_factory_takes_validated_data or type_ == "string":
        raise NoDefaultError
    first, second = (_plain(part.get_default(call_default_factory=True)) for _ in range(2))
    if first != second:
        raise NoDefaultError
    return _Converter(named, is_made=True).convert(first, type_)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, cast("set[Any]", value)), key=repr)
    if isinstance(value, Enum):
        return _plain(value.value)
    try:
        made: Any = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError) as exc:
        raise NoDefaultError from exc
    if find_non_finite(made) is not None:
        raise NoDefaultError
    return made


class _Converter:
    def __init__(self, named: Mapping[str, Any], *, is_made: bool) -> None:
        self._named = named
        self._is_made = is_made

    def convert(self, value: Any, type_: Any) -> Any:
        if isinstance(type_, list):
            return self.convert(value, type_[0])
        if isinstance(type_, str) and type_ in self._named:
            return self.convert(value, self._named[type_])
        definition = cast(
            "dict[str, Any]", type_ if isinstance(type_, dict) else {"type": cast("str", type_)}
        )
        logical = definition.get("logicalType")
        if logical is not None:
            return self._logical(value, str(logical))
        return self._stored(value, definition)

    def _logical(self, value: Any, logical: str) -> Any:
        if logical == "json":
            return msgspec.json.encode(value, order="deterministic").decode()
        if self._is_made and logical in _MADE_UP:
            raise NoDefaultError
        if not isinstance(value, str):
            raise NoDefaultError
        if logical == "timestamp-micros":
            try:
                return (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND
            except (TypeError, ValueError) as exc:
                raise NoDefaultError from exc
        return value

    def _stored(  # noqa: PLR0911 - one return a kind
        self, value: Any, definition: Mapping[str, Any]
    ) -> Any:
        match definition["type"], value:
            case "null", None:
                return None
            case "boolean", bool():
                return value
            case "long", int() if not isinstance(value, bool) and value in _LONGS:
                return value
            case "double", int() | float() if not isinstance(value, bool):
                return float(value)
            case "string", str():
                return value
            case "enum", str() if value in definition["symbols"]:
                return value
            case "array", list():
                items = cast("list[Any]", value)
                return [self.convert(item, definition["items"]) for item in items]
            case "map", dict():
                entries = cast("dict[str, Any]", value)
                return {
                    key: self.convert(item, definition["values"]) for key, item in entries.items()
                }
            case "record", dict():
                return self._record(cast("dict[str, Any]", value), definition["fields"])
            case _:
                raise NoDefaultError

    def _record(self, value: dict[str, Any], fields: list[dict[str, Any]]) -> dict[str, Any]:
        if not value.keys() <= {part["name"] for part in fields}:
            raise NoDefaultError
        made: dict[str, Any] = {}
        for part in fields:
            name = part["name"]
            if name in value:
                made[name] = self.convert(value[name], part["type"])
            elif "default" in part:
                made[name] = part["default"]
            else:
                raise NoDefaultError
        return made

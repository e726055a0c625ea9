"""
MessagePack of events: a fast path beside pydantic, and what JSON has not.

MessagePack has more than JSON: binary, extensions, keys of any type, NaN. None of it is taken for
an event, whichever way it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC
from functools import partial
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import inspect
from pydantic import BaseModel

from spile.spi import UndecodableError
from spile.topics._json import check_json, json_encoder
from spile.topics._limits import MAX_ENVELOPE_DEPTH, MAX_JSON_DEPTH, MAX_RECORD_BYTES
from spile.topics.events.observability._base import (
    EventMetadata,
    ObservabilityEvent,
    PerformanceMetrics,
)
from spile.topics.payloads._codec import NO_METADATA, NO_METRICS, EventCodec, trusted, utc_text

_find_nan_64: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search
_find_nan_32: Final = re.compile(rb"\xca[\x7f\xff][\x80-\xff]").search
pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode
_REFUSALS: Final = (
    AttributeError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)

_T = TypeVar("_T", bound=BaseModel)


class FastPath:
    """
    Observability events without pydantic.

    Where the struct would take what JSON has not for a UUID, a time or a number, and inside the
    caller's JSON, it is looked for; whatever is found goes the slow way, which judges it as JSON.
    """

    def __init__(self, model: type[ObservabilityEvent]) -> None:
        struct = EventCodec(model).struct
        self._model = model
        self._unset = dict.fromkeys(model.model_fields)
        self._common = tuple(name for name in self._unset if name in model.COMMON)
        self._own = tuple(name for name in self._unset if name not in model.COMMON)
        info: Any = inspect.type_info(struct)
        payload = next(field.type for field in info.fields if field.name == "payload")
        self._json = _names(payload, lambda type_: not _is_plain(type_))
        self._typed = _names(info, _is_typed)
        self._own_typed = _names(payload, _is_typed)
        self._decode = msgspec.msgpack.Decoder(struct).decode
        self._convert = partial(msgspec.convert, type=struct)

    def write(self, event: BaseModel) -> bytes | None:
        """Return the bytes; None when the slow way must decide."""
        if type(event) is not self._model:
            return None
        try:
            nested = self._nested(event)
            data = pack(nested)
            self._decode(data)  # what is written is what can be read
        except _REFUSALS:
            return None
        return data if self._is_plain(data, nested, _WRITTEN_KINDS) else None

    def read(self, data: bytes, tree: dict[str, Any]) -> ObservabilityEvent | None:
        """Return the event; None when the slow way must decide."""
        try:
            struct = self._convert(tree)
            is_plain = self._is_plain(data, tree, _READ_KINDS)
            return self._instance(struct, tree) if is_plain else None
        except _REFUSALS:
            return None

    def _is_plain(self, data: bytes, tree: dict[str, Any], kinds: frozenset[type]) -> bool:
        """Say whether an event of right types has nothing that JSON has not."""
        outer = (*tree.values(), *tree["metadata"].values())
        if not set(map(type, outer)) <= kinds:
            return False
        payload = tree["payload"]
        for name in self._json:
            if name in payload and not _is_json(payload[name], MAX_JSON_DEPTH):
                return False
        return not _may_hold_nan(data) or _is_finite(tree)

    def _nested(self, event: ObservabilityEvent) -> dict[str, Any]:
        values = event.__dict__
        nested = {name: value for name in self._common if (value := values[name]) is not None}
        nested["timestamp"] = utc_text(nested["timestamp"])
        nested["metadata"] = _given(nested["metadata"])
        if "performance_metrics" in nested:
            nested["performance_metrics"] = _given(nested["performance_metrics"])
        nested["payload"] = {
            name: value for name in self._own if (value := values[name]) is not None
        }
        return nested

    def _instance(self, struct: Any, tree: dict[str, Any]) -> ObservabilityEvent | None:
        """Make the event of what is set; a left-out field with a default goes the slow way."""
        metadata = tree["metadata"]
        if (
            "event_id" not in tree
            or "timestamp" not in tree
            or "event_type" not in tree
            or "event_category" not in tree
            or "schema_version" not in metadata
        ):
            return None
        payload = tree["payload"]
        given = {*tree, *payload}
        given.discard("payload")
        values: dict[str, Any] = {**self._unset, **tree, **payload}
        del values["payload"]
        for part, names in ((struct, self._typed), (struct.payload, self._own_typed)):
            for name in names:
                if name in given:
                    values[name] = getattr(part, name)
        if (moment := values["timestamp"]).tzinfo is not UTC:
            values["timestamp"] = moment.astimezone(UTC)
        values["metadata"] = _part(EventMetadata, struct.metadata, metadata, NO_METADATA)
        if (metrics := tree.get("performance_metrics")) is not None:
            values["performance_metrics"] = _part(
                PerformanceMetrics, struct.performance_metrics, metrics, NO_METRICS
            )
        return trusted(self._model, values, given)


def _part(model: type[_T], struct: Any, tree: dict[str, Any], unset: dict[str, Any]) -> _T:
    values = unset.copy()
    for name in tree:
        values[name] = getattr(struct, name)
    return trusted(model, values, set(tree))


def _given(value: BaseModel) -> dict[str, Any]:
    return {name: item for name, item in value.__dict__.items() if item is not None}


_READ_KINDS: Final = frozenset({str, dict, list, int, float})
_WRITTEN_KINDS: Final = _READ_KINDS | {UUID}
_PLAIN_TYPES: Final = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.LiteralType,
    inspect.NoneType,
)
_SAME_TYPES: Final = (
    inspect.AnyType,
    inspect.BoolType,
    inspect.DictType,
    inspect.IntType,
    inspect.LiteralType,
    inspect.NoneType,
    inspect.StrType,
)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_TEXT: Final = {str}
_FLOAT: Final = {float}
_FLOAT_32: Final = b"\xca"


def _is_json(value: Any, levels: int) -> bool:
    """Say whether decoded MessagePack is JSON, but for NaN; so many levels may be left."""
    kind: Any = cast("Any", type(value))
    items: Any = value
    if kind is dict:
        if items and set(map(type, items)) != _TEXT:
            return False
        items = items.values()
    elif kind is not list:
        return kind in _SCALARS
    if not levels:
        return False
    if set(map(type, items)) <= _SCALARS:
        return True
    return all(_is_json(item, levels - 1) for item in items if type(item) not in _SCALARS)


def _names(struct: Any, wanted: Callable[[inspect.Type], bool]) -> tuple[str, ...]:
    """Return the fields of a struct whose type, or one of whose types, is wanted."""
    return tuple(
        field.encode_name
        for field in struct.fields
        if any(map(wanted, getattr(field.type, "types", (field.type,))))
    )


def _is_typed(type_: inspect.Type) -> bool:
    """Say whether the struct may hold another value than the bytes did."""
    return not isinstance(type_, _SAME_TYPES) and not isinstance(type_, inspect.StructType)


def _is_plain(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.ListType):
        return _is_plain(type_.item_type)
    return isinstance(type_, _PLAIN_TYPES)


def _may_hold_nan(data: bytes) -> bool:
    return _find_nan_64(data) is not None or (
        data.find(_FLOAT_32) >= 0 and _find_nan_32(data) is not None
    )


def _is_finite(value: Any) -> bool:
    """Say whether every number in a tree is one; asked when the bytes look otherwise."""
    if type(value) is dict:
        return all(map(_is_finite, cast("dict[str, Any]", value).values()))
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return all(map(math.isfinite if set(map(type, items)) == _FLOAT else _is_finite, items))
    return type(value) is not float or math.isfinite(value)


def unpack(data: bytes) -> dict[str, Any]:
    """
    Decode MessagePack that must be an object.

    Raises:
        UndecodableError: It is none, has more than `MAX_RECORD_BYTES`, or something stands behind.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise UndecodableError(f"MessagePack: {len(data)} bytes, limit {MAX_RECORD_BYTES}")
    try:
        tree = _unpack(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UndecodableError(f"MessagePack: {short(exc)}") from None
    except (ValueError, TypeError, OverflowError) as exc:  # a time beyond the calendar, a key
        raise UndecodableError(f"MessagePack: {short(exc)}") from None
    if type(tree) is not dict:
        raise UndecodableError("MessagePack: expected an object")
    return cast("dict[str, Any]", tree)


def tree_to_json(tree: dict[str, Any]) -> bytes:
    """
    Return what MessagePack held as JSON.

    Raises:
        UndecodableError: It holds what JSON has not: binary, extensions, times, keys that are no
            texts, NaN; or it is nested too deep.
    """
    try:
        _check(tree, 0)
        return json_encoder.encode(tree)
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as exc:
        raise UndecodableError(f"MessagePack: {exc}") from None


def _check(value: Any, depth: int) -> None:
    """Check the outer levels here, and what is inside them as caller-defined JSON."""
    if type(value) is dict and depth < MAX_ENVELOPE_DEPTH - MAX_JSON_DEPTH:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise ValueError("a key is no text")
            _check(item, depth + 1)
    else:
        check_json(value)


def short(exc: Exception) -> str:
    """Return what is wrong with bytes, in a few words."""
    return "a text is no UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc)

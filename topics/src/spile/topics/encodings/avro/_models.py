"""The Avro schema of a pydantic model: the same names, order and types at every run."""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spile.spi import SchemaError
from spile.topics.encodings.avro._defaults import NoDefaultError, avro_default
from spile.topics.events.observability._base import ObservabilityEvent

_SYMBOL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_A_NAME: Final = re.compile(r"\W+", re.ASCII)
_JSON: Final = {"type": "string", "logicalType": "json"}
_UUID: Final = {"type": "string", "logicalType": "uuid"}
_INSTANT: Final = {"type": "long", "logicalType": "timestamp-micros"}
_PLAIN: Final[Mapping[Any, Any]] = {
    str: "string",
    bool: "boolean",
    int: "long",
    float: "double",
    UUID: _UUID,
    datetime: _INSTANT,
}
_LISTS: Final = frozenset({list, set, frozenset})
_ENVELOPE_NAMESPACE: Final = "spile.envelopes"


def avro_schema(model: type[BaseModel]) -> dict[str, Any]:
    """
    Return the Avro record of what a model writes as JSON.

    `int` is a long, `float` a double, a UUID a string of logical type `uuid`, a time a
    `timestamp-micros`, a `Literal` or an enum of names an enum, of other texts a string that lists
    them under `symbols`. What may be None is a union with null, null by default where the model
    says so. What has no type of its own (caller-defined JSON, unions of scalars, models with extra
    fields) is a string of logical type `json`. Observability events are in their wire form, with
    `payload`.

    A field has the default that it has in the model, so that a registry lets a later version add
    it. None have ids, times and texts that a factory makes up, and what may be None but is not by
    default: there Avro takes null alone.

    Raises:
        SchemaError: The model holds itself, two different types have one name, or the name of a
            field is no Avro name.
    """
    return _Writer().record(model)


def envelope_schema(event_type: str, model: type[BaseModel] | None) -> dict[str, Any]:
    """
    Return the Avro record of an envelope with the model's payload in it.

    Args:
        event_type: UPPER_SNAKE_CASE; the record is named after it.
        model: The payload's model; None for any JSON object.

    Raises:
        SchemaError: As `avro_schema`.
    """
    payload = _JSON if model is None else avro_schema(model)
    name = "".join(word.capitalize() for word in event_type.split("_"))
    return {
        "type": "record",
        "name": f"{name}Envelope",
        "namespace": _ENVELOPE_NAMESPACE,
        "fields": [
            {"name": "event_id", "type": _UUID},
            {"name": "event_type", "type": "string"},
            {"name": "correlation_id", "type": _UUID},
            {"name": "causation_id", "type": ["null", _UUID], "default": None},
            {"name": "timestamp", "type": _INSTANT},
            {"name": "version", "type": "string"},
            {"name": "service", "type": "string"},
            {"name": "metadata", "type": ["null", _JSON], "default": None},
            {"name": "payload", "type": payload},
        ],
    }


class _Writer:
    """Writes one schema; remembers which named types it has defined."""

    def __init__(self) -> None:
        self._models: dict[str, object] = {}
        self._named: dict[str, Any] = {}
        self._open: set[type[BaseModel]] = set()

    def record(self, model: type[BaseModel]) -> Any:
        """Return the record of a model; its name alone when it is defined already."""
        name, namespace = _avro_name(model.__name__), _namespace(model)
        full = f"{namespace}.{name}" if namespace else name
        if model in self._open:
            raise SchemaError(f"{full} holds itself: recursive schemas are not allowed")
        if not self._is_new(full, model):
            return full
        self._open.add(model)
        made: dict[str, Any] = {"type": "record", "name": name}
        if namespace:
            made["namespace"] = namespace
        made["fields"] = self._fields(model, name)
        self._open.remove(model)
        self._named[full] = made
        return made

    def _fields(self, model: type[BaseModel], record: str) -> list[dict[str, Any]]:
        fields = model.model_fields
        if not issubclass(model, ObservabilityEvent):
            return [self._field(record, key, part, model) for key, part in fields.items()]
        common = {key: part for key, part in fields.items() if key in model.COMMON}
        own = {key: part for key, part in fields.items() if key not in model.COMMON}
        payload = {
            "type": "record",
            "name": f"{record}Payload",
            "fields": [self._field(record, key, part, model) for key, part in own.items()],
        }
        return [
            *(self._field(record, key, part, model) for key, part in common.items()),
            {"name": "payload", "type": payload},
        ]

    def _field(
        self, record: str, key: str, part: FieldInfo, model: type[BaseModel]
    ) -> dict[str, Any]:
        name = part.serialization_alias or part.alias or key
        if not _SYMBOL.fullmatch(name):
            raise SchemaError(f"{record}.{key}: {name!r} is no name of an Avro field")
        place = record + "".join(word.capitalize() for word in key.split("_"))
        written = any(
            key in item.info.fields or "*" in item.info.fields
            for item in model.__pydantic_decorators__.field_serializers.values()
        )
        type_ = _JSON if written else self._type(part.annotation, place)
        made: dict[str, Any] = {"name": name, "type": type_}
        if not written:
            with contextlib.suppress(NoDefaultError):
                made["default"] = avro_default(part, type_, self._named)
        return made

    def _type(self, annotation: Any, place: str) -> Any:  # noqa: PLR0911 - one return a kind
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if type(annotation).__name__ == "TypeAliasType":  # in `typing` from Python 3.12 only
            return self._type(annotation.__value__, place)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._type(arguments[0], place)
        if origin in {Union, types.UnionType}:
            return self._union(arguments, place)
        if origin is Literal:
            return self._choice(arguments, place)
        if origin in _LISTS or (origin is tuple and arguments[1:] == (...,)):
            return self._list(arguments[0], place)
        if origin is dict and arguments[0] is str:
            return self._map(arguments[1], place)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return self._choice([item.value for item in annotation], place)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._model(annotation)
        return _JSON

    def _model(self, model: type[BaseModel]) -> Any:
        free = model.model_config.get("extra") == "allow" or model.__pydantic_root_model__
        return _JSON if free else self.record(model)

    def _list(self, item: Any, place: str) -> Any:
        items = self._type(item, f"{place}Item")
        return _JSON if items == _JSON else {"type": "array", "items": items}

    def _map(self, value: Any, place: str) -> Any:
        values = self._type(value, f"{place}Value")
        return _JSON if values == _JSON else {"type": "map", "values": values}

    def _union(self, branches: Iterable[Any], place: str) -> Any:
        rest = [item for item in branches if item is not type(None)]
        optional = len(rest) != len(list(branches))
        if len(rest) == 1:
            made = self._type(rest[0], place)
            made = cast("list[Any]", made) if isinstance(made, list) else [made]
        elif all(isinstance(item, type) and issubclass(item, BaseModel) for item in rest):
            made = [self._model(item) for item in rest]
            made = [_JSON] if _JSON in made else made
        else:
            made = [_JSON]
        if optional and "null" not in made:
            made = ["null", *made]
        return made if len(made) > 1 else made[0]

    def _choice(self, values: Iterable[Any], place: str) -> Any:
        texts = [value.value if isinstance(value, Enum) else value for value in values]
        if None in texts:
            rest = self._choice([text for text in texts if text is not None], place)
            return ["null", rest]
        if all(type(text) is int for text in texts):
            return "long"
        if not all(isinstance(text, str) for text in texts):
            return _JSON
        if not all(_SYMBOL.fullmatch(text) for text in texts):
            return {"type": "string", "symbols": texts}
        if not self._is_new(place, tuple(texts)):
            return place
        made = self._named[place] = {"type": "enum", "name": place, "symbols": texts}
        return made

    def _is_new(self, name: str, what: object) -> bool:
        if name not in self._models:
            self._models[name] = what
            return True
        if self._models[name] != what:
            raise SchemaError(f"two different types are named {name}")
        return False


def _avro_name(name: str) -> str:
    made = _NOT_IN_A_NAME.sub("_", name).strip("_")
    return made if made[:1].isalpha() else f"_{made}"


def _namespace(model: type[BaseModel]) -> str:
    """Return the model's public package; `spile.topics.` is shortened to `spile.`."""
    parts = [part for part in model.__module__.split(".") if not part.startswith("_")]
    if parts[:2] == ["spile", "topics"]:
        del parts[1]
    return ".".join(_avro_name(part) for part in parts)

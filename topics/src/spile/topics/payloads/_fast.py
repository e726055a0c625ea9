"""
The fast path of validation: a msgspec struct that says the same as a pydantic model.

A struct may refuse what the model accepts (the model is asked then), never the other way round. So
whatever is not known to mean the same in both makes the model go without a struct.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin
from uuid import UUID

import annotated_types
import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spile.topics._wire import Wire

_PLAIN: Final[frozenset[Any]] = frozenset({str, int, float, bool, UUID, type(None)})
_HARMLESS_CONFIG: Final = frozenset(
    {"strict", "frozen", "extra", "title", "allow_inf_nan", "hide_input_in_errors"}
)
_BOUNDS: Final[dict[type[object], str]] = {
    annotated_types.Ge: "ge",
    annotated_types.Gt: "gt",
    annotated_types.Le: "le",
    annotated_types.Lt: "lt",
    annotated_types.MinLen: "min_length",
    annotated_types.MaxLen: "max_length",
}

_SILENT: Final = frozenset({"Strict", "Sensitive"})
"""Annotations that do not change what a value may be."""


class _UnprovenError(TypeError):
    """Raised when a type is not known to mean the same in pydantic and in msgspec."""


def struct_of(model: type[BaseModel]) -> type[msgspec.Struct] | None:
    """Return the struct that stands for a model, None when equality is not known."""
    try:
        _check_plain(model)
        return make_struct(model.__name__, model.model_fields)
    except (_UnprovenError, RecursionError):  # a model that holds itself has no end here
        return None


def make_struct(
    name: str,
    fields: Mapping[str, FieldInfo],
    more: Mapping[str, Any] | None = None,
    *,
    omit_none: bool = False,
) -> type[msgspec.Struct]:
    """
    Make a struct with the types of pydantic fields.

    Args:
        name: Name of the struct.
        fields: The pydantic fields.
        more: More fields, required ones, after the others.
        omit_none: Whether unset optional fields are left out on encoding.

    Raises:
        TypeError: A type has no proven equal.
    """
    made: list[Any] = []
    for key, field in fields.items():
        made.append((key, *_struct_field(field, omit_none=omit_none)))
    made.extend((key, type_) for key, type_ in (more or {}).items())
    return msgspec.defstruct(name, made, kw_only=True, forbid_unknown_fields=True, gc=False)


def _struct_field(field: FieldInfo, *, omit_none: bool) -> tuple[Any, ...]:
    if field.alias or field.validation_alias or field.serialization_alias or field.exclude:
        raise _UnprovenError
    type_ = _known(field.annotation, field.metadata, omit_none=omit_none)
    if field.is_required():
        return (type_,)
    if field.default_factory is not None:
        return (type_, msgspec.field(default_factory=_factory(field, type_)))
    default = field.default
    if default is None and omit_none:
        return (type_ | msgspec.UnsetType, msgspec.UNSET)
    if type(default) not in _PLAIN:
        raise _UnprovenError
    return (type_, default)


def _factory(field: FieldInfo, type_: Any) -> Callable[[], Any]:
    factory = cast("Callable[[], Any]", field.default_factory)
    if factory is field.annotation and isinstance(type_, type):
        return type_  # a nested model by its own defaults is the nested struct by the same
    if field.default_factory_takes_validated_data:
        raise _UnprovenError
    return factory


def _check_plain(model: type[BaseModel]) -> None:
    decorators = model.__pydantic_decorators__
    custom = (
        decorators.validators,
        decorators.field_validators,
        decorators.root_validators,
        decorators.model_validators,
        decorators.field_serializers,
        decorators.model_serializers,
        decorators.computed_fields,
        model.__private_attributes__,
        model.__pydantic_generic_metadata__["parameters"],
    )
    hooks = ("__get_pydantic_core_schema__", "model_post_init", "model_validate_json", "__init__")
    changed = any(
        getattr(getattr(model, hook), "__func__", getattr(model, hook))
        is not getattr(getattr(BaseModel, hook), "__func__", getattr(BaseModel, hook))
        for hook in hooks
    )
    if any(custom) or changed or not set(model.model_config) <= _HARMLESS_CONFIG:
        raise _UnprovenError
    if model.model_config.get("extra") == "allow" or model.__pydantic_root_model__:
        raise _UnprovenError


def _known(annotation: Any, metadata: list[Any], *, omit_none: bool) -> Any:
    for item in metadata:
        if isinstance(item, Wire):
            return item.type
    type_ = _known_type(annotation, omit_none=omit_none)
    bounds: dict[str, Any] = {}
    for item in metadata:
        name = _BOUNDS.get(cast("type[object]", type(item)))
        if name is None:
            if type(item).__name__ in _SILENT or not _says_anything(item):
                continue
            raise _UnprovenError
        bounds[name] = getattr(item, name)
    if not bounds:
        return type_
    if type_ not in {str, int, float} and get_origin(type_) is not list:
        raise _UnprovenError
    return Annotated[type_, msgspec.Meta(**bounds)]


def _says_anything(item: Any) -> bool:
    return not (isinstance(item, FieldInfo) and not item.metadata)


def _known_type(annotation: Any, *, omit_none: bool) -> Any:  # noqa: PLR0911 - one return a kind
    if annotation in _PLAIN:
        return annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        metadata: list[Any] = []
        for item in arguments[1:]:
            metadata.extend(item.metadata if isinstance(item, FieldInfo) else [item])
        return _known(arguments[0], metadata, omit_none=omit_none)
    if origin in {Union, types.UnionType}:
        rest = [item for item in arguments if item is not type(None)]
        if len(rest) != 1 or len(arguments) != 2:  # noqa: PLR2004 - a type and None
            raise _UnprovenError
        return _known_type(rest[0], omit_none=omit_none) | None
    if origin is Literal and all(type(item) is str for item in arguments):
        return annotation
    if origin is list:
        return list[_known_type(arguments[0], omit_none=omit_none)]
    if origin is dict and arguments[0] is str:
        return dict[str, _known_type(arguments[1], omit_none=omit_none)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _nested(annotation, omit_none=omit_none)
    raise _UnprovenError


def _nested(model: type[BaseModel], *, omit_none: bool) -> type[msgspec.Struct]:
    if not omit_none:
        _check_plain(model)
    return make_struct(model.__name__, model.model_fields, omit_none=omit_none)

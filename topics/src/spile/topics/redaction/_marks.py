"""The mark that says: this field of a model is never written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_MAX_NESTING: Final = 8


class Sensitive:
    """
    Annotation: the field's value is replaced before it is written, whatever it looks like.

    `Annotated[str, Sensitive()]`. The replacement is text, so the field must be able to hold text.
    """

    __slots__ = ()


def sensitive_paths(model: type[BaseModel] | None) -> tuple[str, ...]:
    """
    Return where the marked fields of a model stand on the wire, such as `payload.parameters`.

    Lists are transparent and `*` stands for any name. Models are looked into 8 levels deep.

    Args:
        model: The payload's model; None has no marks.
    """
    if model is None:
        return ()
    return tuple(".".join(path) for path in _of_model(model, 0))


def _of_model(model: type[BaseModel], depth: int) -> Iterator[tuple[str, ...]]:
    if depth > _MAX_NESTING:
        return
    # An observability event's own fields stand under `payload` on the wire.
    common: frozenset[str] | None = getattr(model, "COMMON", None)
    for name, field in model.model_fields.items():
        wire = field.serialization_alias or field.alias or name
        head = (wire,) if common is None or name in common else ("payload", wire)
        for tail in _of_field(field, depth):
            yield head + tail


def _of_field(field: FieldInfo, depth: int) -> Iterator[tuple[str, ...]]:
    if any(isinstance(item, Sensitive) for item in field.metadata):
        yield ()
        return
    yield from _of_type(field.annotation, depth)


def _of_type(annotation: Any, depth: int) -> Iterator[tuple[str, ...]]:
    if any(isinstance(item, Sensitive) for item in getattr(annotation, "__metadata__", ())):
        yield ()
        return
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _of_model(annotation, depth + 1)
    else:
        origin: object = get_origin(annotation)
        is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
        step = ("*",) if is_mapping else ()
        for argument in get_args(annotation):
            for tail in _of_type(argument, depth):
                yield step + tail

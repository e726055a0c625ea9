"""From event models to the JSON Schema of what they write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from spile.topics._wire import Wire
from spile.topics.events import ObservabilityEvent

JsonSchema: TypeAlias = dict[str, Any]
"""A JSON Schema, as the object that it is."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
"""The dialect of every JSON Schema that is made here."""

_WITH_NULL: Final = 2

UUID: Final[JsonSchema] = {
    "type": "string",
    "format": "uuid",
    "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
}
"""A UUID as it is written: in its canonical form."""

INSTANT: Final[JsonSchema] = {
    "type": "string",
    "format": "date-time",
    "pattern": "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
}
"""A point in time as it is written: ISO 8601 with date, time and offset (RFC 3339)."""


class _WireSchema(GenerateJsonSchema):
    """The form that is written: own fields under `payload`, no null where none is written."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if "const" in made:
            made.pop("default", None)
        return made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        made = super().nullable_schema(schema)
        inner = cast("list[JsonSchema]", made.get("anyOf", []))
        if len(inner) != _WITH_NULL or not isinstance(inner[0].get("type"), str):
            return made
        if "const" in inner[0] or "enum" in inner[0]:
            return made
        return {**inner[0], "type": [inner[0]["type"], "null"]}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        # A word of OpenAPI, not of JSON Schema; the constants in the alternatives say the same.
        made.pop("discriminator", None)
        return made

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:
        return {**super().uuid_schema(schema), **UUID}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        return {**super().datetime_schema(schema), **INSTANT}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model = cast("type[BaseModel]", schema["cls"])
        properties = cast("dict[str, JsonSchema]", made.get("properties", {}))
        if model.__pydantic_decorators__.model_serializers:
            # Its serializer leaves out what is unset.
            for name, field in model.model_fields.items():
                properties[name] = _without_null(properties[name], field)
        required = [
            name
            for name, field in model.model_fields.items()
            if _always_there(field, properties[name])
        ]
        for name, field in model.model_fields.items():
            if (marked := _choice(field)) is not None:
                narrowed = {"const": marked[0]} if len(marked) == 1 else {"enum": list(marked)}
                properties[name] = {**properties[name], **narrowed}
                properties[name].pop("default", None)
        made.pop("required", None)
        if issubclass(model, ObservabilityEvent):
            return _nested(made, required, model.COMMON)
        return {**made, "required": required} if required else made


def _without_null(schema: JsonSchema, field: FieldInfo) -> JsonSchema:
    if field.is_required() or field.default is not None or field.default_factory is not None:
        return schema
    made = {key: value for key, value in schema.items() if key != "default"}
    if made.get("type") and isinstance(made["type"], list):
        return {**made, "type": made["type"][0]}
    inner = [one for one in made.pop("anyOf", []) if one != {"type": "null"}]
    return (
        {**made, **inner[0]} if len(inner) == 1 else {**made, **({"anyOf": inner} if inner else {})}
    )


def _choice(field: FieldInfo) -> tuple[Any, ...] | None:
    """Return the values that a validator narrows a field to; its `Wire` mark says them."""
    for mark in field.metadata:
        if isinstance(mark, Wire) and get_origin(mark.type) is Literal:
            return get_args(mark.type)
    return None


def _always_there(field: FieldInfo, schema: JsonSchema) -> bool:
    # An id or a time that a reader would have to invent anew at each reading is no default.
    is_made_up = field.default_factory is not None and schema.get("type") == "string"
    return field.is_required() or is_made_up or "const" in schema


def _nested(flat: JsonSchema, required: list[str], common: frozenset[str]) -> JsonSchema:
    properties = cast("dict[str, JsonSchema]", flat["properties"])
    payload: JsonSchema = {
        "additionalProperties": False,
        "properties": {name: value for name, value in properties.items() if name not in common},
        "type": "object",
    }
    if own := [name for name in required if name not in common]:
        payload["required"] = own
    return {
        **flat,
        "properties": {
            **{name: value for name, value in properties.items() if name in common},
            "payload": payload,
        },
        "required": [*(name for name in required if name in common), "payload"],
    }


def definitions(models: Mapping[str, type[BaseModel]]) -> dict[str, JsonSchema]:
    """
    Return the schemas of models and of all that they are made of, as they stand in `$defs`.

    Args:
        models: Models by the name that they shall have there, which is the event type. What they
            are made of has the name of its class.
    """
    if not models:
        return {}
    refs, whole = models_json_schema(
        [(model, "validation") for model in models.values()],
        ref_template="#/$defs/{model}",
        schema_generator=_WireSchema,
    )
    made = cast("dict[str, JsonSchema]", whole["$defs"])
    old_names = {
        str(refs[model, "validation"]["$ref"]).rpartition("/")[2]: name
        for name, model in models.items()
    }
    renamed = {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in old_names.items()}
    return {old_names.get(name, name): redirect(schema, renamed) for name, schema in made.items()}


def redirect(schema: Any, targets: Mapping[str, str]) -> Any:
    """Return a schema whose references go to other places; those not named stay."""
    if isinstance(schema, dict):
        mapping = cast("dict[str, Any]", schema)
        return {
            key: targets.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else redirect(value, targets)
            for key, value in mapping.items()
        }
    if isinstance(schema, list):
        return [redirect(item, targets) for item in cast("list[Any]", schema)]
    return schema


def one_of(models: Mapping[str, type[BaseModel]]) -> JsonSchema:
    """
    Return one schema for many event types; each is a definition under its name.

    Where every model has a field with a constant of its own, an event fits exactly one of them
    (`oneOf`), otherwise at least one (`anyOf`): then the envelope says which.
    """
    made = definitions(models)
    tells_apart = _constants([made[name] for name in models])
    keyword = "oneOf" if tells_apart else "anyOf"
    return {keyword: [{"$ref": f"#/$defs/{name}"} for name in sorted(models)], "$defs": made}


def _constants(schemas: Iterable[JsonSchema]) -> bool:
    found = [
        {
            name: str(value["const"])
            for name, value in cast("dict[str, JsonSchema]", schema["properties"]).items()
            if "const" in value
        }
        for schema in schemas
    ]
    shared = {name for name in found[0] if all(name in constants for constants in found)}
    return any(len({constants[name] for constants in found}) == len(found) for name in shared)

"""What every session model can do with JSON and JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import ValidationError

from spile.topics._strict import Strict
from spile.topics.sessions._fields import EVENT_VERSION

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


class WithSchema(Strict, frozen=True):
    """A strict value that tells its JSON Schema and reads itself from JSON."""

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of this model, with the event version."""
        return {"$schema": _DRAFT, "event_version": EVENT_VERSION, **cls.model_json_schema()}

    @classmethod
    def validate_json(cls, json_data: str | bytes | Mapping[str, Any]) -> Self:
        """
        Read an instance from JSON text or from an object.

        Raises:
            pydantic.ValidationError: It breaks the model, or is no JSON; a `ValueError` that names
                every wrong field.
        """
        if isinstance(json_data, (str, bytes)):
            return cls.model_validate_json(json_data)
        return cls.model_validate(json_data)

    @classmethod
    def validate_json_safe(
        cls, json_data: str | bytes | Mapping[str, Any]
    ) -> tuple[Self | None, Exception | None]:
        """Return the instance and None, or None and the reason why there is none."""
        try:
            return cls.validate_json(json_data), None
        except ValidationError as exc:
            return None, exc

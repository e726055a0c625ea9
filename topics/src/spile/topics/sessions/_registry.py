"""The session models by name, and their schemas as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from spile.topics.sessions._events import (
    EnvironmentInfo,
    SessionEndEvent,
    SessionStartEvent,
    UserInfo,
)
from spile.topics.sessions._schemas import WithSchema

_SHOWN: Final = 80
_MODELS: Final[Mapping[str, type[WithSchema]]] = MappingProxyType(
    {
        model.__name__: model
        for model in (SessionStartEvent, SessionEndEvent, UserInfo, EnvironmentInfo)
    }
)


def get_all_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every session model by the model's name."""
    return {name: model.json_schema() for name, model in _MODELS.items()}


def get_schema(model_name: str) -> dict[str, Any]:
    """
    Return the JSON Schema of one session model.

    Raises:
        ValueError: No session model has this name.
    """
    return _model(model_name).json_schema()


def validate_event_json(model_name: str, json_data: str | bytes | Mapping[str, Any]) -> Any:
    """
    Read an instance of the session model of this name.

    Raises:
        ValueError: No session model has this name, or the data breaks it
            (`pydantic.ValidationError`).
    """
    return _model(model_name).validate_json(json_data)


def export_schemas_to_file(
    output_path: str | Path,
    format: Literal["json", "yaml"] = "json",  # noqa: A002 - the name in the seed
) -> None:
    """
    Write the JSON Schema of every session model into one file.

    Args:
        output_path: An existing file is replaced.
        format: `yaml` needs the extra `yaml` of spile-topics.

    Raises:
        ValueError: Another format.
        ImportError: PyYAML is not installed.
        OSError: The file cannot be written.
    """
    schemas = get_all_schemas()
    if format == "json":
        text = json.dumps(schemas, indent=2, ensure_ascii=False) + "\n"
    elif format == "yaml":
        text = _yaml(schemas)
    else:
        raise ValueError(f"format must be json or yaml, got {str(format)[:_SHOWN]!r}")
    Path(output_path).write_text(text, encoding="utf-8")


def _yaml(schemas: dict[str, dict[str, Any]]) -> str:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ImportError("YAML needs PyYAML: install spile-topics[yaml]") from None
    return yaml.safe_dump(schemas, sort_keys=False, allow_unicode=True)


def _model(name: str) -> type[WithSchema]:
    if (model := _MODELS.get(name)) is None:
        raise ValueError(f"no session model {name[:_SHOWN]!r}, known are {', '.join(_MODELS)}")
    return model

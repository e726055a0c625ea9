"""Schemas in the formats that other tools read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from spile.spi import ConfigurationError
from spile.topics.encodings import avro_schema
from spile.topics.schemas._families import FAMILIES, Family


class ExportFormat(StrEnum):
    """The formats of an export."""

    JSON = "json"
    YAML = "yaml"
    AVRO = "avro"
    ASYNCAPI = "asyncapi"


def avro_schemas(families: Iterable[Family] | None = None) -> dict[str, dict[str, Any]]:
    """
    Return the Avro schema of every event type.

    Args:
        families: All of them by default.

    Raises:
        SchemaError: A model cannot be said in Avro.
    """
    chosen = FAMILIES.values() if families is None else families
    models: dict[str, type[BaseModel]] = {}
    for family in chosen:
        models.update(family.models)
    return {event_type: avro_schema(models[event_type]) for event_type in sorted(models)}


def to_yaml(value: Any) -> str:
    """
    Return a value as YAML, keys sorted.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ConfigurationError("YAML needs PyYAML: install spile-topics[yaml]") from None
    # The dumper in C is ten times as fast; not every build of PyYAML has it.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(value, Dumper=dumper, sort_keys=True, allow_unicode=True, width=100)

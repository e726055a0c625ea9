"""What a registry keeps, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class SchemaType(StrEnum):
    """The languages of schemas, by the names that registries give them."""

    JSON = "JSON"
    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"


class CompatibilityLevel(StrEnum):
    """
    Which versions of a subject must read which, by the names that registries give the levels.

    The transitive ones look at all versions, the others at the last one.

    Source: Confluent Schema Registry, "Schema Evolution and Compatibility".
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def is_transitive(self) -> bool:
        """True when all versions of a subject are looked at."""
        return self.value.endswith("_TRANSITIVE")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchema:
    """
    A schema and the id that names it for ever.

    Attributes:
        schema_id: The id, 1 or more.
        schema_type: Its language.
        schema: The definition; of Protobuf an object whose `proto` is the text.
    """

    schema_id: int
    schema_type: SchemaType
    schema: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaVersion:
    """
    A schema as one version of a subject.

    Attributes:
        subject: The subject.
        version: Its number there, from 1.
        stored: The schema and its id.
    """

    subject: str
    version: int
    stored: StoredSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """
    What a compatibility check found; true when the schema may be registered.

    Attributes:
        compatible: Whether the level of the subject allows the schema.
        reasons: What stands against it, as far as the registry says.
    """

    compatible: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.compatible

"""What comparing two schemas finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SchemaKind(StrEnum):
    """The languages of schemas, by the names that registries give them."""

    JSON = "JSON"
    AVRO = "AVRO"


class Level(StrEnum):
    """Which side must read which, by the names that registries give the levels."""

    BACKWARD = "BACKWARD"
    """Readers with the new schema read what was written with the old one."""
    FORWARD = "FORWARD"
    """Readers with the old schema read what is written with the new one."""
    FULL = "FULL"
    """Both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One place where a reader cannot read what was written.

    Attributes:
        path: The field, such as `payload.tool_name`; `[]` stands for every item of an array;
            empty for the whole.
        rule: What is violated, in a word: `type`, `enum`, `required`, `closed`, ...
        message: What the writer may write and the reader refuses.
        breaks: `BACKWARD` when the reader has the new schema, `FORWARD` when it has the old one.
    """

    path: str
    rule: str
    message: str
    breaks: Level = Level.BACKWARD

    def __str__(self) -> str:
        return f"{self.path or 'the whole'}: {self.message}"


def join(path: str, name: str) -> str:
    """Return the path of a field below another."""
    return f"{path}.{name}" if path else name

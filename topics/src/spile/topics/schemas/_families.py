"""The families of events; each has one schema file and one version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from spile.spi import ConfigurationError
from spile.topics import upper_snake
from spile.topics.events import EVENT_MODELS, MODELS, SCHEMA_VERSION
from spile.topics.schemas._envelope import ENVELOPE_VERSION, envelope_schema
from spile.topics.schemas._generate import DIALECT, JsonSchema, one_of

ENVELOPE_FAMILY: Final = "envelope"
"""Name of the schema of what every event wears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """
    Events that share a schema file and a version.

    Attributes:
        name: Name of the file without its ending.
        version: Version of the models, `major.minor` or `major.minor.patch`.
        models: The models by event type, UPPER_SNAKE_CASE; empty for the envelope.
        description: One sentence.
        version_fields: Paths of the fields that state the version in an event.
    """

    name: str
    version: str
    models: Mapping[str, type[BaseModel]]
    description: str
    version_fields: tuple[str, ...] = ()

    def schema(self) -> JsonSchema:
        """Return the JSON Schema (2020-12) of what the events of this family write."""
        body = one_of(self.models) if self.models else envelope_schema()
        return {
            "$schema": DIALECT,
            "$id": f"urn:spile:schema:{self.name}:{self.version}",
            "title": self.name,
            "description": self.description,
            **body,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """A folder of event models."""

    name: str
    family: str
    version: str
    description: str
    version_fields: tuple[str, ...] = ()


_ROOMS: Final = (
    _Room(
        name="sessions",
        family="session_events",
        version="1.0",
        description="Begin and end of the sessions of a component.",
        version_fields=("event_version",),
    ),
    _Room(
        name="telemetry",
        family="telemetry_events",
        version="0.1",
        description="What planner, executor, reviewer and optimizer report of a run.",
        version_fields=("schema_version",),
    ),
    _Room(
        name="episodes",
        family="episode_events",
        version="1.0.0",
        description="Runs of an agent and their steps.",
    ),
    _Room(
        name="requests",
        family="request_events",
        version="1.0.0",
        description="Requests for work, and their two kinds of answer; the envelope says which.",
    ),
    _Room(
        name="dead_letters",
        family="dead_letter_records",
        version="1.0.0",
        description="Records of dead letter queues, as typed values.",
    ),
    _Room(
        name="audit",
        family="audit_events",
        version="1.0.0",
        description="What publishers report of what they published.",
    ),
)

_OBSERVABILITY: Final = Family(
    name="observability_events",
    version=SCHEMA_VERSION,
    models={upper_snake(name): model for name, model in EVENT_MODELS.items()},
    description="What AI agents do: the observability events, as they are written.",
    version_fields=("metadata.schema_version",),
)
_ENVELOPE: Final = Family(
    name=ENVELOPE_FAMILY,
    version=ENVELOPE_VERSION,
    models={},
    description="What every event wears on the bus; `payload` is an event of one of the families.",
)


def _of_room(room: _Room) -> Family:
    models = {
        event_type: model
        for event_type, model in MODELS.items()
        if room.name in model.__module__.split(".")
    }
    return Family(
        name=room.family,
        version=room.version,
        models=models,
        description=room.description,
        version_fields=room.version_fields,
    )


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family for family in (_ENVELOPE, _OBSERVABILITY, *map(_of_room, _ROOMS))
}
"""Every family by its name, the envelope first."""


def family(name: str) -> Family:
    """
    Return the family of a name.

    Raises:
        ConfigurationError: There is none; the error lists those there are.
    """
    found = FAMILIES.get(name)
    if found is None:
        raise ConfigurationError(f"no family {name[:80]!r}, there are {', '.join(FAMILIES)}")
    return found

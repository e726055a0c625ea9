"""The topics of telemetry: one for each event, of the subsystems that send it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final

from spile.topics._event_names import upper_snake
from spile.topics.catalogue._names import kebab
from spile.topics.catalogue._spec import TopicSpec
from spile.topics.events import telemetry_model
from spile.topics.payloads._contract import EventContract

TELEMETRY_SOURCES: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "plan": ("planner",),
        "executor": ("executor",),
        "review": ("reviewer",),
        "optimizer": ("optimizer",),
    }
)
"""Who sends the core events of telemetry, by module."""

_PARTITIONS: Final = 3


@cache
def _contract(event: str) -> EventContract:
    return EventContract(
        upper_snake(event),
        telemetry_model(event),
        schema_version="0.1.0",
        key=("run_id",),
        correlation=("run_id",),
    )


def telemetry_topic(event: str, sources: Sequence[str] = ()) -> TopicSpec:
    """
    Return the topic of a telemetry event: `<source>.<module>.<action>.v1`, keyed by the run.

    Args:
        event: `module.action` of a core event or a registered one.
        sources: Who sends it; each gets a topic. The services of the catalogue by default.

    Raises:
        InvalidEventError: Nobody registered the event.
    """
    contract = _contract(event)
    module, _, action = event.partition(".")
    return TopicSpec(
        name=f"{{service}}.{kebab(module)}.{kebab(action)}.v1",
        owner=module,
        models={contract.event_type: contract},
        key="run_id",
        schema_version="0.1.0",
        partitions=_PARTITIONS,
        services=tuple(sources),
    )

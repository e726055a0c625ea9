"""The catalogue that ships with spile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from spile.topics._event_names import upper_snake
from spile.topics.catalogue._catalogue import Catalogue
from spile.topics.catalogue._groups import ConsumerGroup
from spile.topics.catalogue._spec import TopicSpec
from spile.topics.catalogue._telemetry import TELEMETRY_SOURCES, telemetry_topic
from spile.topics.events import (
    EVENT_MODELS,
    MODELS,
    SCHEMA_VERSION,
    TELEMETRY_MODELS,
    UPCASTS,
    EventCategory,
)
from spile.topics.payloads._contract import EventContract

_LOW_VOLUME: Final = 3
_STEPS: Final = 6
_SESSION_KEY: Final = "session_id, workflow_id, agent_id, correlation_id"


def _category(category: EventCategory) -> TopicSpec:
    return TopicSpec(
        name=f"{{service}}.{category}.recorded.v1",
        owner="observability",
        key=_SESSION_KEY,
        schema_version=SCHEMA_VERSION,
        models={
            upper_snake(name): EventContract(
                upper_snake(name), model, schema_version=SCHEMA_VERSION, upcasts=UPCASTS.steps
            )
            for name, model in EVENT_MODELS.items()
            if model.model_fields["event_category"].default == category
        },
    )


def _trio(stem: str, prefix: str, owner: str) -> tuple[TopicSpec, ...]:
    return tuple(
        TopicSpec(name=f"{stem}{step}.v1", owner=owner, models={kind: MODELS[kind]})
        for step in ("requested", "completed", "failed")
        for kind in [f"{prefix}_{step.upper()}"]
    )


def _keyed(rest: str, kind: str, key: str, *, partitions: int) -> TopicSpec:
    """Return a topic of each service whose key is its correlation id too."""
    return TopicSpec(
        name=f"{{service}}.{rest}",
        owner="observability",
        models={kind: EventContract(kind, MODELS[kind], key=(key,), correlation=(key,))},
        key=key,
        partitions=partitions,
    )


_SESSIONS = (
    _keyed("session.started.v1", "SESSION_START", "event_id", partitions=_LOW_VOLUME),
    _keyed("session.ended.v1", "SESSION_END", "session_id", partitions=_LOW_VOLUME),
)

_EPISODES = (
    _keyed(
        "episode.status-changed.v1",
        "EPISODE_STATUS_CHANGED",
        "episode.episode_id",
        partitions=_LOW_VOLUME,
    ),
    _keyed("episode.step-recorded.v1", "STEP_RECORDED", "step.episode_id", partitions=_STEPS),
)


_COMMANDS = tuple(
    TopicSpec(
        name=f"spile.command.{reach}.v1",
        owner="spile",
        models={f"COMMAND_{reach.upper()}": None},
        partitions=1,
    )
    for reach in ("broadcast", "group")
)

_AUDIT = TopicSpec(
    name="spile.audit.counted.v1",
    owner="spile",
    models={"AUDIT_COUNTED": MODELS["AUDIT_COUNTED"]},
    key="source_id",
    partitions=1,
)

_SPECS = (
    *(_category(category) for category in EventCategory),
    *_trio(
        "archon-intelligence.intelligence.code-analysis-", "CODE_ANALYSIS", "archon-intelligence"
    ),
    *_trio("agent.routing.", "AGENT_ROUTING", "agent-router"),
    *_COMMANDS,
    *_SESSIONS,
    *_EPISODES,
    _AUDIT,
)

_GROUPS = (ConsumerGroup(name="persistence", tiers=1, partitions=1),)
"""The workers that fail by event: what is reprocessed for them comes back here, in any order."""


def default_catalogue(
    services: Sequence[str] = ("agent",),
    *,
    telemetry: Mapping[str, Sequence[str]] = TELEMETRY_SOURCES,
) -> Catalogue:
    """
    Return the catalogue that ships.

    Observability topics by category, sessions, episodes, two request-and-response trios, commands
    to nodes, the core events of telemetry, and the reports of publishers.

    Args:
        services: The services that publish observability, session and episode events.
        telemetry: Who sends the core events of telemetry, by module; a module that is not there
            has no topics. `TELEMETRY_SOURCES` by default.

    Raises:
        ConfigurationError: Two services or two sources become the same segment.
        InvalidTopicError: A service or a source is no segment of a topic name.
    """
    core = [
        telemetry_topic(event, sources)
        for event in TELEMETRY_MODELS
        if (sources := telemetry.get(event.partition(".")[0]))
    ]
    return Catalogue((*_SPECS, *core), services=services, groups=_GROUPS)

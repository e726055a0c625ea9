"""The catalogue that ships with spile."""

from __future__ import annotations

from collections.abc import Sequence

from spile.topics.catalogue._catalogue import Catalogue, TopicSpec
from spile.topics.events import EVENT_MODELS, SCHEMA_VERSION, EventCategory
from spile.topics.payloads._contract import EventContract, upper_snake

_SESSION_KEY = "session_id, workflow_id, agent_id, correlation_id"


def _category(category: EventCategory) -> TopicSpec:
    return TopicSpec(
        name=f"{{service}}.{category}.recorded.v1",
        owner="observability",
        key=_SESSION_KEY,
        schema_version=SCHEMA_VERSION,
        models={
            upper_snake(name): EventContract(
                upper_snake(name), model, schema_version=SCHEMA_VERSION
            )
            for name, model in EVENT_MODELS.items()
            if model.model_fields["event_category"].default == category
        },
    )


def _trio(stem: str, prefix: str, owner: str) -> tuple[TopicSpec, ...]:
    return tuple(
        TopicSpec(name=f"{stem}{step}.v1", owner=owner, models={f"{prefix}_{step.upper()}": None})
        for step in ("requested", "completed", "failed")
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

_SPECS = (
    *(_category(category) for category in EventCategory),
    *_trio(
        "archon-intelligence.intelligence.code-analysis-", "CODE_ANALYSIS", "archon-intelligence"
    ),
    *_trio("agent.routing.", "AGENT_ROUTING", "agent-router"),
    *_COMMANDS,
)


def default_catalogue(services: Sequence[str] = ("agent",)) -> Catalogue:
    """
    Return the catalogue that ships.

    Observability topics by category, two request-and-response trios, commands to nodes.

    Args:
        services: The services that publish observability events.

    Raises:
        ConfigurationError: Two services become the same segment.
        InvalidTopicError: A service is no segment of a topic name.
    """
    return Catalogue(_SPECS, services=services)

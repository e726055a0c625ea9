"""What a scenario is made of, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from spile.adapters.delivery import OutgoingEvent
from spile.topics import upper_snake
from spile.topics.events import ObservabilityEvent

Severity = Literal["low", "medium", "high", "critical"]


class WorkflowScenario(StrEnum):
    """Kinds of work that agents do."""

    CODE_REVIEW = "code_review"
    FEATURE_DEVELOPMENT = "feature_development"
    BUG_INVESTIGATION = "bug_investigation"
    PERFORMANCE_OPTIMIZATION = "performance_optimization"
    SECURITY_AUDIT = "security_audit"
    DOCUMENTATION_UPDATE = "documentation_update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A way in which a tool fails.

    Attributes:
        error_type: Short name of the kind of error.
        message: What the tool says.
        strategy: How an agent recovers from it.
        severity: How bad it is.
    """

    error_type: str
    message: str
    strategy: str
    severity: Severity = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolProfile:
    """
    How a tool behaves.

    Durations and sizes are drawn from log-normal distributions, as those of real tools are.

    Attributes:
        name: Tool name.
        parameters: Parameter names, each with the kind of word that fills it.
        median_ms: Half of the calls take less.
        spread: Sigma of the logarithm of the durations; 1.0 has a p95 of five times the median.
        failure_odds: Share of calls that fail.
        failures: The ways in which they do.
        result_bytes: Half of the results are shorter.
        version: Of the tool.
    """

    name: str
    parameters: Mapping[str, str]
    median_ms: float
    spread: float = 0.6
    failure_odds: float = 0.02
    failures: Sequence[Failure]
    result_bytes: int = 600
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """
    Calls of one tool within a node.

    Attributes:
        tool: Name of a tool profile.
        least: Fewest calls.
        most: Most calls.
    """

    tool: str
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """
    One step of a workflow.

    Attributes:
        node_id: Its name in the workflow.
        node_type: What kind of step it is.
        title: For people.
        role: The agent that does it; a change of role is a hand-over with a message.
        uses: Tool calls, in this order.
        asks: What it asks the semantic memory before it begins; None asks nothing.
        learns: What it writes there afterwards; None writes nothing.
    """

    node_id: str
    node_type: str
    title: str
    role: str
    uses: Sequence[Use]
    asks: str | None = None
    learns: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    One kind of work, as a table of steps.

    Attributes:
        name: Name of the workflow.
        goal: What it is to reach; `{file}` and the like are filled in.
        priority: Of the workflow.
        nodes: The steps, in order.
        result: What it says when it is done.
        brings: Tools that are registered for it, and not afterwards.
        updates: Tools that get a new version before it begins.
    """

    name: str
    goal: str
    priority: str
    nodes: Sequence[Node]
    result: str
    brings: Sequence[str] = ()
    updates: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedEvent:
    """
    An event and its place in the chain of causes.

    Attributes:
        event: The event.
        correlation_id: One per workflow.
        causation_id: Id of the event that led to this one; None for the first of a workflow.
    """

    event: ObservabilityEvent
    correlation_id: UUID
    causation_id: UUID | None

    @property
    def event_type(self) -> str:
        """The event's type as the catalogue names it, such as `PRE_TOOL_USE`."""
        return upper_snake(self.event.event_type)

    @property
    def event_id(self) -> UUID:
        """The event's id."""
        return self.event.event_id

    @property
    def timestamp(self) -> datetime:
        """When it happened."""
        return self.event.timestamp

    def outgoing(self) -> OutgoingEvent:
        """Return the event as a publisher takes it."""
        return OutgoingEvent(
            event_type=self.event_type,
            payload=self.event,
            correlation_id=str(self.correlation_id),
            causation_id=None if self.causation_id is None else str(self.causation_id),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedEvent:
    """
    An event of another family that goes with a workflow.

    Attributes:
        event_type: As the catalogue names it, such as `SESSION_START`.
        event: The event.
        event_id: Its id, which the families that have none of their own get from the envelope.
        timestamp: When it happened.
        correlation_id: Of its family: the session, the episode, the run.
        causation_id: Id of the event that led to this one; None for the first of a workflow.
    """

    event_type: str
    event: BaseModel
    event_id: UUID
    timestamp: datetime
    correlation_id: UUID
    causation_id: UUID | None

    def outgoing(self) -> OutgoingEvent:
        """Return the event as a publisher takes it."""
        return OutgoingEvent(
            event_type=self.event_type,
            payload=self.event,
            event_id=str(self.event_id),
            timestamp=self.timestamp,
            correlation_id=str(self.correlation_id),
            causation_id=None if self.causation_id is None else str(self.causation_id),
        )

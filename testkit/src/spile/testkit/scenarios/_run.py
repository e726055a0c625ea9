"""What all events of one workflow share: its ids, its time, its randomness, the chain of causes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from spile.testkit.scenarios._values import GeneratedEvent
from spile.topics.events import EMBEDDING_LENGTH, EventMetadata, ObservabilityEvent

SOURCE = "spile-scenarios"
"""The service that says to have made the events."""

_TICK = timedelta(milliseconds=1)


@dataclass(slots=True, kw_only=True)
class Agent:
    """
    An agent at work in a workflow.

    Attributes:
        agent_id: Its id.
        role: What it is there for.
        since: When it came up.
    """

    agent_id: UUID
    role: str
    since: datetime


@dataclass(slots=True, kw_only=True)
class Run:
    """
    One run of a plan.

    Ids, durations and failures come from `rng` alone, times from `now` on.

    Attributes:
        rng: Decides everything.
        now: The time in the workflow; moves on as events are made.
        embeddings: Whether texts come with an embedding.
        cause: The event that the next one follows from.
        calls: Tool calls so far.
        failed: Those that failed.
    """

    rng: random.Random
    now: datetime
    embeddings: bool = False
    workflow_id: UUID = field(init=False)
    session_id: UUID = field(init=False)
    correlation_id: UUID = field(init=False)
    cause: UUID | None = field(init=False, default=None)
    calls: int = field(init=False, default=0)
    failed: int = field(init=False, default=0)
    _metadata: EventMetadata = field(init=False)

    def __post_init__(self) -> None:
        self.workflow_id, self.session_id, self.correlation_id = (self.new_id() for _ in range(3))
        self._metadata = EventMetadata(correlation_id=self.correlation_id, source_service=SOURCE)

    def event(
        self, model: type[ObservabilityEvent], agent: Agent | None, **facts: Any
    ) -> GeneratedEvent:
        """Make an event that the one before has caused."""
        event = model(
            event_id=self.new_id(),
            timestamp=self.now,
            workflow_id=self.workflow_id,
            session_id=self.session_id,
            agent_id=None if agent is None else agent.agent_id,
            metadata=self._metadata,
            **facts,
        )
        made = GeneratedEvent(
            event=event, correlation_id=self.correlation_id, causation_id=self.cause
        )
        self.cause = event.event_id
        self.now += _TICK
        return made

    def wait(self, median_ms: float, spread: float) -> float:
        """Let time pass and return how many milliseconds it was."""
        took_ms = round(self.draw(median_ms, spread), 3)
        self.now += timedelta(milliseconds=took_ms)
        return took_ms

    def draw(self, median: float, spread: float) -> float:
        """Draw from a log-normal distribution."""
        return median * self.rng.lognormvariate(0, spread)

    def happens(self, odds: float) -> bool:
        """Say whether something of these odds happens."""
        return self.rng.random() < odds

    def embedding(self) -> list[float] | None:
        """Return an embedding where they are wanted."""
        if not self.embeddings:
            return None
        return [round(self.rng.gauss(0, 0.03), 6) for _ in range(EMBEDDING_LENGTH)]

    def new_id(self) -> UUID:
        """Make an id."""
        return UUID(int=self.rng.getrandbits(128), version=4)


def milliseconds(duration: timedelta) -> float:
    """Return a duration in milliseconds."""
    return round(duration.total_seconds() * 1000, 3)

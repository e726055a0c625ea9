"""The trio of agent routing: asked for, answered, failed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spile.topics._json import JsonObject
from spile.topics._strict import MAX_INTEGER, Count, Milliseconds, Name, Share, Strict
from spile.topics._wire import Id
from spile.topics.events.requests._common import FailedRequest, TimeoutMs


class AgentRoutingOptions(Strict, frozen=True):
    """
    How to choose an agent; the router decides what is not set.

    Attributes:
        max_recommendations: At most so many.
        min_confidence: None below it.
        routing_strategy: Such as `enhanced_fuzzy_matching`.
        timeout_ms: How long the router may take.
    """

    max_recommendations: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    min_confidence: Share | None = None
    routing_strategy: str | None = None
    timeout_ms: TimeoutMs | None = None


class AgentRoutingRequested(Strict, frozen=True):
    """
    Somebody asks which agent should do a piece of work.

    Attributes:
        user_request: The work, in the user's words.
        context: What is known besides.
        timeout_ms: How long the caller waits; 5000 by default.
        correlation_id: The request's; the envelope carries the same.
    """

    user_request: Name
    context: JsonObject = Field(default_factory=dict)
    options: AgentRoutingOptions = Field(default_factory=AgentRoutingOptions)
    timeout_ms: TimeoutMs = 5000
    correlation_id: Id | None = None


class AgentRecommendation(Strict, frozen=True):
    """An agent that could do it; priority 1 is the first choice."""

    agent_name: Name
    confidence: Share
    reasoning: str | None = None
    capabilities: list[str] = Field(default_factory=list[str])
    priority: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None


class AgentRoutingMetadata(Strict, frozen=True):
    """How the router came to its answer."""

    routing_time_ms: Milliseconds | None = None
    cache_hit: bool | None = None
    candidates_evaluated: Count | None = None
    routing_strategy: str | None = None


class AgentRoutingCompleted(Strict, frozen=True):
    """The answer of the router, best first."""

    recommendations: list[AgentRecommendation]
    routing_metadata: AgentRoutingMetadata = Field(default_factory=AgentRoutingMetadata)
    correlation_id: Id | None = None


class AgentRoutingFailed(FailedRequest, frozen=True):
    """The router found no answer."""

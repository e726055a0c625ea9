"""What is asked, and what the two answers look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from spile.topics import Catalogue, Route
from spile.topics.events.requests import (
    AgentRoutingCompleted,
    AgentRoutingFailed,
    AgentRoutingRequested,
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisRequested,
    FailedRequest,
)

DEFAULT_TIMEOUT_MS: Final = 5000
"""How long a caller waits whose request does not say. Source: seed 002, request and response."""

Asked = TypeVar("Asked", bound=BaseModel)
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trio(Generic[Asked, Answer]):
    """
    Three event types of the catalogue that belong together.

    The topics are those that hold `<name>_REQUESTED`, `<name>_COMPLETED` and `<name>_FAILED`; they
    must not be templates, since both sides must mean the same ones whatever they are called.

    A model that has a field `correlation_id` gets the request's; a request that has `timeout_ms`
    says there how long its caller waits, otherwise that is 5000 ms.

    Attributes:
        name: UPPER_SNAKE_CASE, such as `CODE_ANALYSIS`.
        requested: Payload of a request.
        completed: Payload of an answer.
        failed: Payload of the answer that says why there is none.
    """

    name: str
    requested: type[Asked]
    completed: type[Answer]
    failed: type[FailedRequest]

    def routes(self, catalogue: Catalogue, environment: str) -> tuple[Route, Route, Route]:
        """
        Return where requests, answers and failures go.

        Raises:
            UnknownTopicError: The catalogue does not hold all three.
        """
        requested, completed, failed = (
            catalogue.resolve(f"{self.name}_{step}", environment=environment, service=self.name)
            for step in ("REQUESTED", "COMPLETED", "FAILED")
        )
        return requested, completed, failed

    def timeout_ms(self, request: BaseModel) -> int:
        """Return how long the caller of a request waits."""
        stated = getattr(request, "timeout_ms", None)
        return stated if isinstance(stated, int) else DEFAULT_TIMEOUT_MS


def with_fields(payload: BaseModel, values: Mapping[str, Any]) -> BaseModel:
    """Return a payload with those of these fields that its model has."""
    known = type(payload).model_fields
    return payload.model_copy(update={name: v for name, v in values.items() if name in known})


CODE_ANALYSIS: Final = Trio(
    name="CODE_ANALYSIS",
    requested=CodeAnalysisRequested,
    completed=CodeAnalysisCompleted,
    failed=CodeAnalysisFailed,
)
"""`archon-intelligence.intelligence.code-analysis-*`."""

AGENT_ROUTING: Final = Trio(
    name="AGENT_ROUTING",
    requested=AgentRoutingRequested,
    completed=AgentRoutingCompleted,
    failed=AgentRoutingFailed,
)
"""`agent.routing.*`."""

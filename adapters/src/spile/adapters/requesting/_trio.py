"""What is asked, and what the two answers look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel

from spile.adapters.requesting._failures import check_failed_model
from spile.spi import ConfigurationError
from spile.topics import Catalogue, EventContract, Route
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
        failed: Payload of the answer that says why there is none: a `FailedRequest`, or derived
            from it with fields that have defaults.

    Raises:
        ConfigurationError: The failed model cannot hold what a responder sends.
    """

    name: str
    requested: type[Asked]
    completed: type[Answer]
    failed: type[FailedRequest]

    def __post_init__(self) -> None:
        check_failed_model(self.name, self.failed)

    def routes(self, catalogue: Catalogue, environment: str) -> tuple[Route, Route, Route]:
        """
        Return where requests, answers and failures go.

        Raises:
            UnknownTopicError: The catalogue does not hold all three.
            ConfigurationError: It holds one of them with another model.
        """
        requested, completed, failed = (
            catalogue.resolve(f"{self.name}_{step}", environment=environment, service=self.name)
            for step in ("REQUESTED", "COMPLETED", "FAILED")
        )
        for route, model in (
            (requested, self.requested),
            (completed, self.completed),
            (failed, self.failed),
        ):
            held = route.contract.model
            if held is None or not issubclass(held, model):
                raise ConfigurationError(
                    f"{route.event_type} is {'any JSON' if held is None else held.__name__} in the "
                    f"catalogue, the trio {self.name} says {model.__name__}"
                )
        return requested, completed, failed

    def timeout_ms(self, request: BaseModel) -> int:
        """Return how long the caller of a request waits."""
        stated = getattr(request, "timeout_ms", None)
        return stated if isinstance(stated, int) else DEFAULT_TIMEOUT_MS


class Form:
    """
    Fills in what a payload of a trio says about its request.

    Args:
        contract: Of the event type.
        model: Its model.
    """

    def __init__(self, contract: EventContract, model: type[BaseModel]) -> None:
        self._model = model
        self._known = frozenset(model.model_fields)
        self._is_plain = contract.has_fast_path

    def filled(self, payload: BaseModel, values: Mapping[str, Any]) -> BaseModel | dict[str, Any]:
        """
        Return a payload with those of these fields that its model has; as a mapping if equal.

        Args:
            payload: An instance of the model.
            values: By name; a correlation id as text.
        """
        more = {name: value for name, value in values.items() if name in self._known}
        if not self._is_plain or type(payload) is not self._model:
            if "correlation_id" in more:
                more["correlation_id"] = UUID(more["correlation_id"])
            return payload.model_copy(update=more)
        made = _plain(payload)
        made.update(more)
        return made


_optional: Final[dict[type[BaseModel], frozenset[str]]] = {}


def _plain(model: BaseModel) -> dict[str, Any]:
    """
    Return the fields of a model without those that are None by default and still are.

    Half the time to validate, since nothing is copied and nulls need no second look. Only for
    models with a fast path, whose fields are written under their own names.
    """
    kind = type(model)
    optional = _optional.get(kind)
    if optional is None:
        fields = kind.model_fields.items()
        optional = _optional[kind] = frozenset(n for n, field in fields if field.default is None)
    made: dict[str, Any] = {}
    for name, value in model.__dict__.items():
        if value is None and name in optional:
            continue
        if isinstance(value, BaseModel):
            made[name] = _plain(value)
        elif isinstance(value, list):
            items = cast("list[object]", value)
            made[name] = [_plain(i) if isinstance(i, BaseModel) else i for i in items]
        else:
            made[name] = value
    return made


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

"""The envelope of telemetry, and the ten core events in it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field

from spile.topics._strict import MAX_INTEGER, Name, Strict, now
from spile.topics._wire import Instant
from spile.topics.events.telemetry._payloads import (
    ExecutorCommandCompleted,
    ExecutorCommandStarted,
    ExecutorError,
    OptimizerBenchmarkCompleted,
    OptimizerProfileSelected,
    PlanGenerated,
    PlanStepCompleted,
    PlanStepStarted,
    ReviewDecision,
    ReviewFeedbackGenerated,
    TelemetryPayload,
)


class TelemetryEvent(Strict, frozen=True):
    """
    One line of an autonomous run's telemetry. `timestamp` is the present unless given.

    Attributes:
        schema_version: Version of the telemetry contract.
        timestamp: When it happened, in UTC.
        source: The subsystem that speaks: planner, executor, reviewer, memory, optimizer, another.
        run_id: The run; may hold slashes and colons.
        cycle: Number of the improvement cycle, from 1.
        event: `module.action`.
        payload: The event's own data.
        tags: Labels to filter by.
    """

    schema_version: Literal["0.1"] = "0.1"
    timestamp: Instant = Field(default_factory=now)
    source: Name
    run_id: Name
    cycle: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    event: str
    payload: TelemetryPayload
    tags: dict[str, str] = Field(default_factory=dict[str, str])


class PlanGeneratedEvent(TelemetryEvent, frozen=True):
    """`plan.generated`."""

    event: Literal["plan.generated"] = "plan.generated"
    payload: PlanGenerated


class PlanStepStartedEvent(TelemetryEvent, frozen=True):
    """`plan.step_started`."""

    event: Literal["plan.step_started"] = "plan.step_started"
    payload: PlanStepStarted


class PlanStepCompletedEvent(TelemetryEvent, frozen=True):
    """`plan.step_completed`."""

    event: Literal["plan.step_completed"] = "plan.step_completed"
    payload: PlanStepCompleted


class ExecutorCommandStartedEvent(TelemetryEvent, frozen=True):
    """`executor.command_started`."""

    event: Literal["executor.command_started"] = "executor.command_started"
    payload: ExecutorCommandStarted


class ExecutorCommandCompletedEvent(TelemetryEvent, frozen=True):
    """`executor.command_completed`."""

    event: Literal["executor.command_completed"] = "executor.command_completed"
    payload: ExecutorCommandCompleted


class ExecutorErrorEvent(TelemetryEvent, frozen=True):
    """`executor.error`."""

    event: Literal["executor.error"] = "executor.error"
    payload: ExecutorError


class ReviewFeedbackGeneratedEvent(TelemetryEvent, frozen=True):
    """`review.feedback_generated`."""

    event: Literal["review.feedback_generated"] = "review.feedback_generated"
    payload: ReviewFeedbackGenerated


class ReviewDecisionEvent(TelemetryEvent, frozen=True):
    """`review.decision`."""

    event: Literal["review.decision"] = "review.decision"
    payload: ReviewDecision


class OptimizerProfileSelectedEvent(TelemetryEvent, frozen=True):
    """`optimizer.profile_selected`."""

    event: Literal["optimizer.profile_selected"] = "optimizer.profile_selected"
    payload: OptimizerProfileSelected


class OptimizerBenchmarkCompletedEvent(TelemetryEvent, frozen=True):
    """`optimizer.benchmark_completed`."""

    event: Literal["optimizer.benchmark_completed"] = "optimizer.benchmark_completed"
    payload: OptimizerBenchmarkCompleted


_CORE: Final[tuple[type[TelemetryEvent], ...]] = (
    PlanGeneratedEvent,
    PlanStepStartedEvent,
    PlanStepCompletedEvent,
    ExecutorCommandStartedEvent,
    ExecutorCommandCompletedEvent,
    ExecutorErrorEvent,
    ReviewFeedbackGeneratedEvent,
    ReviewDecisionEvent,
    OptimizerProfileSelectedEvent,
    OptimizerBenchmarkCompletedEvent,
)

TELEMETRY_MODELS: Final[Mapping[str, type[TelemetryEvent]]] = MappingProxyType(
    {str(model.model_fields["event"].default): model for model in _CORE}
)
"""The core events by their name, such as `plan.step_started`."""

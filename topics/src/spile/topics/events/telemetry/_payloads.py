"""What the ten core events of telemetry say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spile.topics._strict import MAX_INTEGER, Count, Milliseconds, Name, Number, Share, Strict


class TelemetryPayload(Strict, frozen=True):
    """
    The payload of a telemetry event; those of other subsystems inherit from it.

    Attributes:
        redacted_fields: Paths of the fields whose values were replaced before writing.
    """

    redacted_fields: list[str] = Field(default_factory=list[str])


class PlanGenerated(TelemetryPayload, frozen=True):
    """A plan was made: its size, how good it seems, what went into it."""

    steps: Count
    confidence: Share | None = None
    reasoning_score: Number | None = None
    inputs: list[str] | None = None
    selected_tools: list[str] | None = None


class PlanStepStarted(TelemetryPayload, frozen=True):
    """A step of a plan begins."""

    step_index: Count
    tool: Name
    description: str


class PlanStepCompleted(TelemetryPayload, frozen=True):
    """A step of a plan is over."""

    duration_ms: Milliseconds
    result_summary: str
    status: Name
    step_index: Count | None = None


class ExecutorCommandStarted(TelemetryPayload, frozen=True):
    """A command is about to run."""

    command: Name
    arguments: list[str]


class ExecutorCommandCompleted(TelemetryPayload, frozen=True):
    """A command is over; its output is known by digests only."""

    exit_code: Annotated[int, Field(ge=-MAX_INTEGER - 1, le=MAX_INTEGER)]
    stdout_digest: str
    stderr_digest: str
    command: str | None = None
    duration_ms: Milliseconds | None = None


class ExecutorError(TelemetryPayload, frozen=True):
    """The executor met an exception."""

    exception_class: Name
    message: str
    handled: bool


class ReviewFeedbackGenerated(TelemetryPayload, frozen=True):
    """A reviewer has said something."""

    confidence_delta: Number
    comments: list[str]
    blocking_issues: list[str]


class ReviewDecision(TelemetryPayload, frozen=True):
    """A reviewer has decided."""

    verdict: Literal["accept", "revise", "abort"]
    reason: str | None = None


class OptimizerProfileSelected(TelemetryPayload, frozen=True):
    """A profile was chosen for the hardware."""

    hardware_signature: Name
    profile_name: Name


class OptimizerBenchmarkCompleted(TelemetryPayload, frozen=True):
    """A benchmark is over: tokens a second, milliseconds."""

    throughput_tokens_per_s: Annotated[float, Field(ge=0)]
    latency_ms: Milliseconds
    profile_name: str | None = None

"""Events of workflows and their nodes."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonArray, JsonObject
from spile.topics._strict import Count, Milliseconds, Name
from spile.topics._wire import Id
from spile.topics.events.observability._base import ObservabilityEvent


class _WorkflowEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["workflow"] = "workflow"
    workflow_id: Id  # pyright: ignore[reportGeneralTypeIssues] - keyword only


class WorkflowStartedEvent(_WorkflowEvent, frozen=True):
    """A workflow begins."""

    event_type: Literal["WorkflowStarted"] = "WorkflowStarted"
    workflow_name: Name
    workflow_definition: JsonObject
    initial_context: JsonObject | None = None
    estimated_duration_ms: Milliseconds | None = None
    priority: str | None = None
    initiating_agent: str | None = None


class WorkflowEndedEvent(_WorkflowEvent, frozen=True):
    """A workflow is over."""

    event_type: Literal["WorkflowEnded"] = "WorkflowEnded"
    status: Literal["completed", "failed", "cancelled"]
    completion_reason: str
    final_result: JsonObject | None = None
    total_tasks_executed: Count | None = None
    failed_tasks: Count | None = None
    actual_duration_ms: Milliseconds | None = None


class WorkflowPausedEvent(_WorkflowEvent, frozen=True):
    """A workflow waits."""

    event_type: Literal["WorkflowPaused"] = "WorkflowPaused"
    pause_reason: str
    checkpoint: JsonObject | None = None
    pending_tasks: JsonArray | None = None


class WorkflowResumedEvent(_WorkflowEvent, frozen=True):
    """A workflow goes on."""

    event_type: Literal["WorkflowResumed"] = "WorkflowResumed"
    resume_reason: str | None = None
    checkpoint: JsonObject | None = None
    paused_duration_ms: Milliseconds | None = None


class NodeExecutingEvent(_WorkflowEvent, frozen=True):
    """A node of a workflow begins."""

    event_type: Literal["NodeExecuting"] = "NodeExecuting"
    node_id: Name
    node_type: Name
    node_name: str | None = None
    input_data: JsonObject | None = None
    dependencies_satisfied: JsonArray | None = None
    assigned_agent: str | None = None
    estimated_execution_time_ms: Milliseconds | None = None


class NodeCompletedEvent(_WorkflowEvent, frozen=True):
    """A node of a workflow is done."""

    event_type: Literal["NodeCompleted"] = "NodeCompleted"
    node_id: Name
    success: bool
    output_data: JsonObject | None = None
    error_details: JsonObject | None = None
    retry_count: Count | None = None
    downstream_nodes: JsonArray | None = None


class NodeFailedEvent(_WorkflowEvent, frozen=True):
    """A node of a workflow failed."""

    event_type: Literal["NodeFailed"] = "NodeFailed"
    node_id: Name
    error_type: Name
    error_message: str
    error_details: JsonObject | None = None
    retry_count: Count | None = None
    recovery_action: str | None = None
    downstream_nodes: JsonArray | None = None

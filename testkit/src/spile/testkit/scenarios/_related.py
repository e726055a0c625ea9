"""The events of other families that go with a workflow: its session, its episode, its telemetry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from pydantic import BaseModel

from spile.testkit.scenarios._values import GeneratedEvent, RelatedEvent
from spile.topics.events import (
    MODELS,
    NodeCompletedEvent,
    NodeExecutingEvent,
    NodeFailedEvent,
    ObservabilityEvent,
    PostToolUseEvent,
    PreToolUseEvent,
    SemanticQueryEvent,
    ToolRegisteredEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)

_COMPONENT: Final = "spile-scenarios"
_PROFILER: Final = "run_profiler"
_PIDS: Final = 4_194_304


def with_related(events: Iterable[GeneratedEvent]) -> Iterator[GeneratedEvent | RelatedEvent]:
    """
    Give the events of workflows together with those of other families that go with them.

    Each workflow gets a session around it, an episode with its steps, and the telemetry of its
    plan; their ids follow from those of the workflow. Every cause is still an earlier event of the
    same workflow, and times never go back where they did not before.

    Args:
        events: Of whole workflows, also of many at once.
    """
    companions: dict[UUID, _Companion | None] = {}
    for made in events:
        if made.correlation_id not in companions:
            companion = companions[made.correlation_id] = _Companion(first=made)
            yield companion.session_start()
        companion = companions[made.correlation_id]
        yield made
        if companion is not None:
            yield from companion.after(made)
        if isinstance(made.event, WorkflowEndedEvent):
            # What leaves after the end has no companion.
            companions[made.correlation_id] = None


@dataclass(slots=True, kw_only=True)
class _Companion:
    """What goes with one workflow."""

    first: GeneratedEvent
    _steps: int = field(init=False, default=0)
    _nodes: int = field(init=False, default=0)
    _role: str = field(init=False, default="planner")
    _problem: str = field(init=False, default="")
    _call: dict[str, Any] = field(init=False, default_factory=dict[str, Any])
    _node_began: datetime | None = field(init=False, default=None)

    def session_start(self) -> RelatedEvent:
        session_id = _session(self.first)
        return self._made(
            "SESSION_START",
            self.first,
            event_id=session_id,
            caused=False,
            correlation_id=session_id,
            event_version="1.0",
            component_name=_COMPONENT,
            shell_type="AgentShell",
            pid=1 + session_id.int % _PIDS,
            user={"username": "agent", "home": "/home/agent"},
            hostname="workshop-1",
            environment={
                "python_version": "3.11.9",
                "platform": "Linux-6.8-x86_64",
                "cwd": "/home/agent/tidewatch",
            },
        )

    def after(self, made: GeneratedEvent) -> Iterator[RelatedEvent]:
        event = made.event
        match event:
            case WorkflowStartedEvent():
                yield from self._begin(made, event)
            case NodeExecutingEvent():
                yield self._node_started(made, event)
            case NodeCompletedEvent() | NodeFailedEvent():
                yield self._node_over(made, event)
            case SemanticQueryEvent():
                text = f"I should know more: {event.query_text}"
                yield self._step(made, "thought", {"text": text})
            case PreToolUseEvent():
                yield from self._call_started(made, event)
            case PostToolUseEvent():
                yield from self._call_over(made, event)
            case WorkflowEndedEvent():
                yield from self._end(made, event)
            case ToolRegisteredEvent() if event.tool_name == _PROFILER:
                yield self._telemetry(
                    made,
                    "optimizer.profile_selected",
                    "optimizer",
                    hardware_signature="x86_64-16c-64g",
                    profile_name="balanced",
                )
            case _:
                pass

    def _begin(self, made: GeneratedEvent, event: WorkflowStartedEvent) -> Iterator[RelatedEvent]:
        nodes: list[str] = event.workflow_definition["nodes"]
        self._role = event.initiating_agent or self._role
        self._problem = event.workflow_definition["goal"]
        yield self._episode(made, "running")
        yield self._telemetry(
            made,
            "plan.generated",
            "planner",
            steps=len(nodes),
            confidence=0.8,
            inputs=[self._problem],
        )

    def _node_started(self, made: GeneratedEvent, event: NodeExecutingEvent) -> RelatedEvent:
        self._role, self._node_began = event.assigned_agent or self._role, event.timestamp
        self._nodes += 1
        return self._telemetry(
            made,
            "plan.step_started",
            "planner",
            step_index=self._nodes - 1,
            tool=event.node_type,
            description=event.node_name or event.node_id,
        )

    def _node_over(
        self, made: GeneratedEvent, event: NodeCompletedEvent | NodeFailedEvent
    ) -> RelatedEvent:
        failed = isinstance(event, NodeFailedEvent)
        took = event.timestamp - (self._node_began or event.timestamp)
        return self._telemetry(
            made,
            "plan.step_completed",
            "planner",
            step_index=self._nodes - 1,
            duration_ms=took.total_seconds() * 1000,
            result_summary=event.error_message if failed else f"{event.node_id} is done",
            status="failed" if failed else "completed",
        )

    def _call_started(self, made: GeneratedEvent, event: PreToolUseEvent) -> Iterator[RelatedEvent]:
        self._call = {
            "call_id": str(event.event_id),
            "tool_name": event.tool_name,
            "arguments": event.parameters,
        }
        yield self._step(made, "tool_call", self._call)
        yield self._telemetry(
            made,
            "executor.command_started",
            "executor",
            command=event.tool_name,
            arguments=[f"{name}={value}" for name, value in event.parameters.items()],
        )

    def _call_over(self, made: GeneratedEvent, event: PostToolUseEvent) -> Iterator[RelatedEvent]:
        text = "" if event.result is None else str(event.result["text"])
        if event.success:
            content = {"result": event.result, "call_id": self._call["call_id"]}
            yield self._step(made, "observation", content)
        else:
            content = {
                "error_type": event.error_type,
                "message": event.error,
                "tool_call": self._call,
            }
            yield self._step(made, "error", content)
            yield self._telemetry(
                made,
                "executor.error",
                "executor",
                exception_class=event.error_type,
                message=event.error,
                handled=True,
            )
        yield self._telemetry(
            made,
            "executor.command_completed",
            "executor",
            command=event.tool_name,
            exit_code=0 if event.success else 1,
            stdout_digest=_digest(text),
            stderr_digest=_digest(event.error or ""),
            duration_ms=event.execution_time_ms,
        )
        if event.success and event.tool_name == _PROFILER:
            took_ms = event.execution_time_ms or 0.0
            yield self._telemetry(
                made,
                "optimizer.benchmark_completed",
                "optimizer",
                throughput_tokens_per_s=round(1_000_000 / (1 + took_ms), 1),
                latency_ms=took_ms,
                profile_name="balanced",
            )

    def _end(self, made: GeneratedEvent, event: WorkflowEndedEvent) -> Iterator[RelatedEvent]:
        good = event.status == "completed"
        yield self._telemetry(
            made,
            "review.feedback_generated",
            "reviewer",
            confidence_delta=0.1 if good else -0.3,
            comments=[event.completion_reason],
            blocking_issues=[] if good else [event.completion_reason],
        )
        yield self._telemetry(
            made,
            "review.decision",
            "reviewer",
            verdict="accept" if good else "abort",
            reason=event.completion_reason,
        )
        yield self._episode(made, event.status, before="running", ended=event.timestamp)
        session_id = _session(self.first)
        yield self._made("SESSION_END", made, correlation_id=session_id, session_id=str(session_id))

    def _episode(
        self,
        made: GeneratedEvent,
        status: str,
        before: str | None = None,
        ended: datetime | None = None,
    ) -> RelatedEvent:
        episode = {
            "episode_id": self.first.correlation_id,
            "agent_role": self._role,
            "problem": self._problem,
            "status": status,
            "started_at": self.first.timestamp,
            "ended_at": ended,
        }
        kind = f"EPISODE_STATUS_CHANGED:{status}"
        return self._made(kind, made, episode=episode, previous_status=before)

    def _step(self, made: GeneratedEvent, kind: str, content: dict[str, Any]) -> RelatedEvent:
        step = {
            "step_id": uuid5(made.event_id, "step"),
            "episode_id": self.first.correlation_id,
            "sequence": self._steps,
            "kind": kind,
            "agent_role": self._role,
            "timestamp": made.timestamp,
            "content": content,
        }
        self._steps += 1
        return self._made("STEP_RECORDED", made, step=step)

    def _telemetry(
        self, made: GeneratedEvent, name: str, source: str, **payload: Any
    ) -> RelatedEvent:
        return self._made(
            name.replace(".", "_").upper(),
            made,
            source=source,
            run_id=str(self.first.correlation_id),
            cycle=1,
            payload=payload,
            tags={"scenario": "made-up"},
        )

    def _made(
        self,
        kind: str,
        made: GeneratedEvent,
        *,
        event_id: UUID | None = None,
        caused: bool = True,
        correlation_id: UUID | None = None,
        **facts: Any,
    ) -> RelatedEvent:
        """Make the event of a family that another event has led to, at the same time."""
        event_type = kind.partition(":")[0]
        own_id = event_id or uuid5(made.event_id, kind)
        model = MODELS[event_type]
        if "event_id" in model.model_fields:
            facts["event_id"] = str(own_id) if event_type == "SESSION_START" else own_id
        event: BaseModel = model(timestamp=made.timestamp, **facts)
        return RelatedEvent(
            event_type=event_type,
            event=event,
            event_id=own_id,
            timestamp=made.timestamp,
            correlation_id=correlation_id or self.first.correlation_id,
            causation_id=made.event_id if caused else None,
        )


def _session(made: GeneratedEvent) -> UUID:
    event: ObservabilityEvent = made.event
    return event.session_id or made.correlation_id


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Events put together to the operations that they tell of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from spile.topics.events import (
    AgentCapabilityUtilizedEvent,
    AgentStartedEvent,
    AgentStoppedEvent,
    FailureDetectedEvent,
    ObservabilityEvent,
    PostToolUseEvent,
    PreToolUseEvent,
    SemanticQueryEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)
from spile.topics.interop._span import is_span_id, is_trace_id

INFERENCE: Final = ("chat", "generate_content", "text_completion", "embeddings")
"""Operations that are a call of a model."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True, kw_only=True, eq=False)
class Operation:
    """One operation: the event that began it, the one that ended it, failures on the way."""

    name: str
    start: ObservabilityEvent | None
    end: ObservabilityEvent | None = None
    failures: list[FailureDetectedEvent] = field(default_factory=list[FailureDetectedEvent])
    agent_name: str | None = None
    seed: UUID | None = None
    span_id: str = ""
    parent_id: str | None = None

    @property
    def first(self) -> ObservabilityEvent:
        event = self.start or self.end
        assert event is not None  # noqa: S101 - an operation is made of an event
        return event

    @property
    def last(self) -> ObservabilityEvent:
        return self.end or self.first

    @property
    def start_ns(self) -> int:
        if self.start is not None:
            return nanoseconds(self.start.timestamp)
        return max(0, nanoseconds(self.last.timestamp) - _cost_ns(self.last))


@dataclass(slots=True, kw_only=True)
class Gathering:
    """Puts events together that are one operation."""

    causes: Mapping[UUID, UUID]
    done: list[Operation] = field(default_factory=list[Operation])
    _open: dict[object, list[Operation]] = field(default_factory=dict[object, list[Operation]])
    _failures: list[FailureDetectedEvent] = field(default_factory=list[FailureDetectedEvent])

    def add(self, event: ObservabilityEvent) -> None:
        match event:
            case PreToolUseEvent() | AgentStartedEvent() | WorkflowStartedEvent():
                operation = Operation(name=_OPERATIONS[type(event)], start=event)
                self._open.setdefault(_subject(event), []).append(operation)
            case PostToolUseEvent() | AgentStoppedEvent() | WorkflowEndedEvent():
                self._end(event)
            case SemanticQueryEvent():
                self.done.append(Operation(name="retrieval", start=None, end=event))
            case AgentCapabilityUtilizedEvent() if event.capability_name in INFERENCE:
                self.done.append(Operation(name=event.capability_name, start=None, end=event))
            case FailureDetectedEvent():
                self._failures.append(event)
            case _:
                pass

    def finish(self) -> list[Operation]:
        """Return the operations that are over, in the order in which they began."""
        self.done.sort(key=lambda operation: operation.start_ns)
        owners = _Owners.of(self.done)
        for failure in self._failures:
            owner = owners.owner(failure)
            if owner is not None:
                owner.failures.append(failure)
        names = {
            first.agent_id: first.agent_name
            for operation in self.done
            if isinstance(first := operation.first, AgentStartedEvent)
        }
        for operation in self.done:
            agent_id = operation.last.agent_id
            operation.agent_name = None if agent_id is None else names.get(agent_id)
        _give_ids(self.done)
        _give_parents(self.done, owners)
        return self.done

    def _end(self, event: ObservabilityEvent) -> None:
        waiting = self._open.get(_subject(event), [])
        cause = self.causes.get(event.event_id)
        operation = _chosen(waiting, event, cause)
        if operation is None:
            # What began it is not here; its id still names the span where it is known.
            seed = cause if isinstance(event, PostToolUseEvent) else None
            operation = Operation(name=_OPERATIONS[type(event)], start=None, seed=seed)
        else:
            waiting.remove(operation)
        operation.end = event
        self.done.append(operation)


_OPERATIONS: Final[Mapping[type[ObservabilityEvent], str]] = {
    PreToolUseEvent: "execute_tool",
    PostToolUseEvent: "execute_tool",
    AgentStartedEvent: "invoke_agent",
    AgentStoppedEvent: "invoke_agent",
    WorkflowStartedEvent: "invoke_workflow",
    WorkflowEndedEvent: "invoke_workflow",
}


def _subject(event: ObservabilityEvent) -> tuple[object, ...]:
    """Return what the two events of an operation have in common."""
    if isinstance(event, PreToolUseEvent | PostToolUseEvent):
        return ("tool", event.agent_id, event.workflow_id, event.session_id, event.tool_name)
    if isinstance(event, AgentStartedEvent | AgentStoppedEvent):
        return ("agent", event.agent_id, event.workflow_id, event.session_id)
    return ("workflow", event.workflow_id)


def _chosen(
    waiting: list[Operation], event: ObservabilityEvent, cause: UUID | None
) -> Operation | None:
    if isinstance(event, PostToolUseEvent) and cause is not None:
        return next((one for one in waiting if one.first.event_id == cause), None)
    span_id = event.metadata.span_id
    same = (one for one in waiting if span_id and one.first.metadata.span_id == span_id)
    return next(same, waiting[0] if waiting else None)


@dataclass(slots=True, kw_only=True)
class _Owners:
    """Which operation an event is a part of."""

    agents: dict[tuple[UUID | None, UUID | None], Operation] = field(
        default_factory=dict[tuple[UUID | None, UUID | None], Operation]
    )
    workflows: dict[UUID | None, Operation] = field(default_factory=dict[UUID | None, Operation])

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> _Owners:
        owners = cls()
        for operation in operations:
            first = operation.first
            if operation.name == "invoke_agent":
                owners.agents.setdefault((first.agent_id, first.workflow_id), operation)
            elif operation.name == "invoke_workflow":
                owners.workflows.setdefault(first.workflow_id, operation)
        return owners

    def owner(self, event: ObservabilityEvent) -> Operation | None:
        """Return the operation of the event's agent, else of its workflow."""
        agent = self.agents.get((event.agent_id, event.workflow_id))
        return self.workflows.get(event.workflow_id) if agent is None else agent

    def parent(self, operation: Operation) -> Operation | None:
        """Return the operation that another is a part of."""
        if operation.name == "invoke_workflow":
            return None
        first = operation.first
        if operation.name == "invoke_agent":
            owner = self.workflows.get(first.workflow_id)
        else:
            owner = self.owner(first)
        same_trace = owner is not None and trace_id_of(owner.first) == trace_id_of(first)
        return owner if same_trace else None


def _give_ids(operations: list[Operation]) -> None:
    """Give ids: the first that names a span id has it, the others derive theirs."""
    taken: set[tuple[str, str]] = set()
    for operation in operations:
        first, trace_id = operation.first, trace_id_of(operation.first)
        named = first.metadata.span_id
        if not is_span_id(named) or (trace_id, named) in taken:
            named = None
        seed = operation.seed or first.event_id
        # The random half of an id; the other half of a UUIDv7 is the time.
        span_id = named or seed.hex[16:]
        operation.span_id = span_id if is_span_id(span_id) else f"{1:016x}"
        taken.add((trace_id, operation.span_id))


def _give_parents(operations: list[Operation], owners: _Owners) -> None:
    for operation in operations:
        named = operation.first.metadata.span_id
        parent = owners.parent(operation)
        if is_span_id(named) and named != operation.span_id:
            operation.parent_id = named
        elif parent is not None:
            operation.parent_id = parent.span_id


def trace_id_of(event: ObservabilityEvent) -> str:
    """Return the trace: as stated, else the correlation id, else what the event belongs to."""
    metadata = event.metadata
    if metadata.trace_id is not None and is_trace_id(metadata.trace_id):
        return metadata.trace_id
    known = (metadata.correlation_id, event.workflow_id, event.session_id, event.event_id)
    return next((one.hex for one in known if one is not None and one.int), f"{1:032x}")


def nanoseconds(moment: datetime) -> int:
    return max(0, (moment - _EPOCH) // _MICROSECOND * 1000)


def _cost_ns(event: ObservabilityEvent) -> int:
    """Return how long the operation took that an event ended, as far as it says."""
    took_ms: float | None = None
    match event:
        case PostToolUseEvent():
            took_ms = event.execution_time_ms
        case AgentStoppedEvent():
            took_ms = event.uptime_ms
        case WorkflowEndedEvent():
            took_ms = event.actual_duration_ms
        case _:
            pass
    if took_ms is None and event.performance_metrics is not None:
        took_ms = event.performance_metrics.execution_time_ms
    return round((took_ms or 0.0) * 1_000_000)

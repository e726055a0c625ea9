"""One workflow, played from its plan: every event follows from an earlier one."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from spile.testkit.scenarios._tools import TOOLS
from spile.testkit.scenarios._values import Failure, GeneratedEvent, Node, Plan, ToolProfile
from spile.testkit.scenarios._words import fill_in, output, word
from spile.topics.events import (
    AgentStartedEvent,
    AgentStoppedEvent,
    EventMetadata,
    FailureDetectedEvent,
    MessagePublishedEvent,
    MessageReceivedEvent,
    NodeCompletedEvent,
    NodeExecutingEvent,
    NodeFailedEvent,
    ObservabilityEvent,
    PerformanceMetrics,
    PostToolUseEvent,
    PreToolUseEvent,
    RecoveryCompletedEvent,
    RecoveryInitiatedEvent,
    SemanticQueryEvent,
    SemanticUpdateEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)

SOURCE = "spile-scenarios"
_RETRIES = 2
_RESULT_LIMIT = 16_384
_THINKING_MS = 1_800.0
_RELAPSE_ODDS = 0.2  # what failed a moment ago fails again more often


@dataclass(slots=True, kw_only=True)
class _Tally:
    calls: int = 0
    failed: int = 0


@dataclass(slots=True, kw_only=True)
class _Agent:
    agent_id: UUID
    role: str
    since: datetime


@dataclass(slots=True, kw_only=True)
class Workflow:
    """
    One run of a plan.

    Ids, durations and failures come from `rng` alone, times from `now` on.

    Attributes:
        plan: What is done.
        rng: Decides everything.
        now: The time in the workflow; moves on as events are made.
    """

    plan: Plan
    rng: random.Random
    now: datetime
    workflow_id: UUID = field(init=False)
    session_id: UUID = field(init=False)
    correlation_id: UUID = field(init=False)
    _agents: dict[str, _Agent] = field(init=False, default_factory=dict[str, _Agent])
    _tally: _Tally = field(init=False, default_factory=_Tally)
    _cause: UUID | None = field(init=False, default=None)
    _broken: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.workflow_id, self.session_id, self.correlation_id = (self._id() for _ in range(3))

    def play(self) -> Iterator[GeneratedEvent]:
        """Make the events, in the order in which they happen."""
        started = self.now
        goal = fill_in(self.rng, self.plan.goal)
        yield self._event(
            WorkflowStartedEvent,
            None,
            workflow_name=self.plan.name,
            workflow_definition={"goal": goal, "nodes": [n.node_id for n in self.plan.nodes]},
            initial_context={"repository": "tidewatch", "branch": word(self.rng, "branch")},
            priority=self.plan.priority,
            initiating_agent=self.plan.nodes[0].role,
        )
        before: _Agent | None = None
        for index, node in enumerate(self.plan.nodes):
            before = yield from self._hand_over(before, node)
            yield from self._node(index, node, before)
            if self._broken is not None:
                break
        completed = self._broken is None
        yield self._event(
            WorkflowEndedEvent,
            None,
            status="completed" if completed else "failed",
            completion_reason=self._broken or "all nodes are done",
            final_result={"summary": self.plan.result if completed else "given up", "goal": goal},
            total_tasks_executed=self._tally.calls,
            failed_tasks=self._tally.failed,
            actual_duration_ms=_ms(self.now - started),
        )
        ended = self._cause
        for agent in self._agents.values():
            self._cause = ended
            yield self._event(
                AgentStoppedEvent,
                agent,
                stop_reason="workflow ended",
                uptime_ms=_ms(self.now - agent.since),
            )

    def _hand_over(
        self, before: _Agent | None, node: Node
    ) -> Generator[GeneratedEvent, None, _Agent]:
        """Bring in the agent of a node; another agent before it sends a message."""
        agent = self._agents.get(node.role)
        if agent is None:
            agent = _Agent(agent_id=self._id(), role=node.role, since=self.now)
            self._agents[node.role] = agent
            yield self._event(
                AgentStartedEvent, agent, agent_name=f"{node.role}-1", agent_type=node.role
            )
        if before is None or before is agent:
            return agent
        message_id = str(self._id())
        yield self._event(
            MessagePublishedEvent,
            before,
            message_id=message_id,
            from_agent=before.role,
            to_agent=agent.role,
            message_type="hand_over",
            message_content={"next": node.node_id, "note": fill_in(self.rng, "see {file}")},
        )
        latency_ms = self._pass(40, 0.5)
        yield self._event(
            MessageReceivedEvent,
            agent,
            message_id=message_id,
            from_agent=before.role,
            processing_status="accepted",
            delivery_latency_ms=latency_ms,
        )
        return agent

    def _node(self, index: int, node: Node, agent: _Agent) -> Iterator[GeneratedEvent]:
        following = [later.node_id for later in self.plan.nodes[index + 1 : index + 2]]
        calls, failed = self._tally.calls, self._tally.failed
        yield self._event(
            NodeExecutingEvent,
            agent,
            node_id=node.node_id,
            node_type=node.node_type,
            node_name=node.title,
            dependencies_satisfied=[earlier.node_id for earlier in self.plan.nodes[:index]],
            assigned_agent=node.role,
        )
        if node.asks is not None:
            yield self._question(node.asks, agent)
        for tool in self._tools(node):
            yield from self._call(node, tool, agent)
            if self._broken is not None:
                yield self._event(
                    NodeFailedEvent,
                    agent,
                    node_id=node.node_id,
                    error_type="RecoveryFailedError",
                    error_message=self._broken,
                    retry_count=_RETRIES,
                    downstream_nodes=following,
                )
                return
        if node.learns is not None:
            self._pass(35, 0.5)
            yield self._event(
                SemanticUpdateEvent,
                agent,
                operation_type="insert",
                content={"text": fill_in(self.rng, node.learns)},
                content_type="note",
                affected_records=1,
            )
        yield self._event(
            NodeCompletedEvent,
            agent,
            node_id=node.node_id,
            success=True,
            output_data={"tool_calls": self._tally.calls - calls},
            retry_count=self._tally.failed - failed,
            downstream_nodes=following,
        )

    def _tools(self, node: Node) -> Iterator[ToolProfile]:
        for use in node.uses:
            for _ in range(self.rng.randint(use.least, use.most)):
                yield TOOLS[use.tool]

    def _question(self, text: str, agent: _Agent) -> GeneratedEvent:
        self._pass(60, 0.5)
        return self._event(
            SemanticQueryEvent,
            agent,
            query_text=fill_in(self.rng, text),
            similarity_threshold=0.7,
            max_results=10,
            results_count=self.rng.randint(0, 10),
            search_strategy="cosine",
        )

    def _call(self, node: Node, tool: ToolProfile, agent: _Agent) -> Iterator[GeneratedEvent]:
        """Call a tool; when it fails, detect, recover, and call it again."""
        self._pass(_THINKING_MS, 0.7)
        parameters = {name: word(self.rng, kind) for name, kind in tool.parameters.items()}
        failure = self._chance(tool)
        yield from self._attempt(tool, parameters, agent, failure, retry=0)
        if failure is None:
            return
        first, began = self._cause, self.now
        yield self._event(
            FailureDetectedEvent,
            agent,
            failure_type=failure.error_type,
            failure_description=_told(failure, tool, parameters),
            affected_component=tool.name,
            severity=failure.severity,
            error_details={"node": node.node_id, "event_id": str(first)},
            detection_method="tool_result",
        )
        detected = self._cause
        self._pass(250, 0.5)
        yield self._event(
            RecoveryInitiatedEvent,
            agent,
            recovery_strategy=failure.strategy,
            trigger_failure=str(detected),
            recovery_steps=failure.strategy.split("_then_"),
        )
        again: Failure | None = failure
        for retry in range(1, _RETRIES + 1):
            self._pass(_THINKING_MS, 0.7)
            again = self._chance(tool, at_least=_RELAPSE_ODDS)
            yield from self._attempt(tool, parameters, agent, again, retry=retry)
            if again is None:
                break
        yield self._event(
            RecoveryCompletedEvent,
            agent,
            recovery_strategy=failure.strategy,
            success=again is None,
            actual_recovery_time_ms=_ms(self.now - began),
            remaining_issues=None if again is None else [again.error_type],
        )
        if again is not None:
            self._broken = f"{tool.name} failed {_RETRIES + 1} times: {again.error_type}"

    def _attempt(
        self,
        tool: ToolProfile,
        parameters: Mapping[str, str | int],
        agent: _Agent,
        failure: Failure | None,
        *,
        retry: int,
    ) -> Iterator[GeneratedEvent]:
        yield self._event(
            PreToolUseEvent,
            agent,
            tool_name=tool.name,
            tool_version=tool.version,
            parameters=dict(parameters),
            timeout_ms=120_000.0,
        )
        took_ms = self._pass(tool.median_ms, tool.spread)
        self._tally.calls += 1
        self._tally.failed += failure is not None
        size = min(round(self._draw(tool.result_bytes, 0.9)), 4 * _RESULT_LIMIT)
        text = output(self.rng, min(size, _RESULT_LIMIT))
        outcome: dict[str, Any] = (
            {"result": {"text": text}}
            if failure is None
            else {"error": _told(failure, tool, parameters), "error_type": failure.error_type}
        )
        if failure is None and size > _RESULT_LIMIT:
            outcome |= {"result_truncated": True, "full_result_size": size}
        yield self._event(
            PostToolUseEvent,
            agent,
            tool_name=tool.name,
            success=failure is None,
            retry_count=retry,
            execution_time_ms=took_ms,
            performance_metrics=PerformanceMetrics(
                execution_time_ms=took_ms,
                memory_usage_mb=round(self._draw(90, 0.5), 1),
                cpu_usage_percent=round(self.rng.uniform(1, 95), 1),
            ),
            **outcome,
        )

    def _chance(self, tool: ToolProfile, *, at_least: float = 0.0) -> Failure | None:
        """Decide whether a call fails, and how."""
        odds = max(tool.failure_odds, at_least)
        return self.rng.choice(tool.failures) if self.rng.random() < odds else None

    def _event(
        self, model: type[ObservabilityEvent], agent: _Agent | None, **facts: Any
    ) -> GeneratedEvent:
        """Make an event that the one before has caused."""
        event = model(
            event_id=self._id(),
            timestamp=self.now,
            workflow_id=self.workflow_id,
            session_id=self.session_id,
            agent_id=None if agent is None else agent.agent_id,
            metadata=EventMetadata(correlation_id=self.correlation_id, source_service=SOURCE),
            **facts,
        )
        made = GeneratedEvent(
            event=event, correlation_id=self.correlation_id, causation_id=self._cause
        )
        self._cause = event.event_id
        self.now += timedelta(milliseconds=1)
        return made

    def _pass(self, median_ms: float, spread: float) -> float:
        """Let time pass and return how many milliseconds it was."""
        took_ms = round(self._draw(median_ms, spread), 3)
        self.now += timedelta(milliseconds=took_ms)
        return took_ms

    def _draw(self, median: float, spread: float) -> float:
        return median * self.rng.lognormvariate(0, spread)

    def _id(self) -> UUID:
        return UUID(int=self.rng.getrandbits(128), version=4)


def _ms(duration: timedelta) -> float:
    return round(duration.total_seconds() * 1000, 3)


def _told(failure: Failure, tool: ToolProfile, parameters: Mapping[str, str | int]) -> str:
    """Return what the tool says, filled in with what the call was about."""
    facts = {kind: str(parameters[name]) for name, kind in tool.parameters.items()}
    return failure.message.format_map(_Known(facts))


class _Known(dict[str, str]):
    def __missing__(self, kind: str) -> str:
        return kind

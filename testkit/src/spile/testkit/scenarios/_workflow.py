"""One workflow, played from its plan: every event follows from an earlier one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from spile.testkit.scenarios._calls import RETRIES, call, health_check
from spile.testkit.scenarios._run import Agent, Run, milliseconds
from spile.testkit.scenarios._tools import TOOLS
from spile.testkit.scenarios._values import GeneratedEvent, Node, Plan, ToolProfile
from spile.testkit.scenarios._words import MODELS, fill_in, word
from spile.topics.events import (
    AgentCapabilityUtilizedEvent,
    AgentStartedEvent,
    AgentStateChangedEvent,
    AgentStoppedEvent,
    BroadcastEvent,
    MemoryConsolidationEvent,
    MessagePublishedEvent,
    MessageReceivedEvent,
    NodeCompletedEvent,
    NodeExecutingEvent,
    NodeFailedEvent,
    PerformanceMetrics,
    RecoveryCompletedEvent,
    SemanticQueryEvent,
    SemanticUpdateEvent,
    ToolRegisteredEvent,
    ToolUnregisteredEvent,
    ToolUpdatedEvent,
    WorkflowEndedEvent,
    WorkflowPausedEvent,
    WorkflowResumedEvent,
    WorkflowStartedEvent,
)

_PAUSE_ODDS = 0.12
_PAUSE_MS = 6_000.0
_CONSOLIDATION_ODDS = 0.4


@dataclass(slots=True, kw_only=True)
class Workflow:
    """
    One run of a plan.

    Attributes:
        plan: What is done.
        run: The ids, the time, and what decides everything.
    """

    plan: Plan
    run: Run
    _agents: dict[str, Agent] = field(init=False, default_factory=dict[str, Agent])
    _broken: str | None = field(init=False, default=None)

    def play(self) -> Iterator[GeneratedEvent]:
        """Make the events, in the order in which they happen."""
        run, plan = self.run, self.plan
        started = run.now
        goal = fill_in(run.rng, plan.goal)
        yield run.event(
            WorkflowStartedEvent,
            None,
            workflow_name=plan.name,
            workflow_definition={"goal": goal, "nodes": [n.node_id for n in plan.nodes]},
            initial_context={"repository": "tidewatch", "branch": word(run.rng, "branch")},
            priority=plan.priority,
            initiating_agent=plan.nodes[0].role,
        )
        yield from self._bring_tools()
        yield from self._nodes()
        yield from self._tell_all()
        completed = self._broken is None
        yield run.event(
            WorkflowEndedEvent,
            None,
            status="completed" if completed else "failed",
            completion_reason=self._broken or "all nodes are done",
            final_result={"summary": plan.result if completed else "given up", "goal": goal},
            total_tasks_executed=run.calls,
            failed_tasks=run.failed,
            actual_duration_ms=milliseconds(run.now - started),
        )
        yield from self._leave()

    def _bring_tools(self) -> Iterator[GeneratedEvent]:
        """Register the tools that only this kind of work has, and update those that are old."""
        for name in self.plan.brings:
            tool = TOOLS[name]
            yield self.run.event(
                ToolRegisteredEvent,
                None,
                tool_name=name,
                tool_version=tool.version,
                description=f"{name.replace('_', ' ')}, for {self.plan.name}",
                parameters_schema={
                    "type": "object",
                    "properties": {
                        parameter: {"type": "integer" if kind == "count" else "string"}
                        for parameter, kind in tool.parameters.items()
                    },
                    "required": list(tool.parameters),
                },
            )
        for name in self.plan.updates:
            yield self.run.event(
                ToolUpdatedEvent,
                None,
                tool_name=name,
                tool_version=TOOLS[name].version,
                changes={"version": ["0.9.4", TOOLS[name].version]},
            )

    def _nodes(self) -> Iterator[GeneratedEvent]:
        before: Agent | None = None
        for index, node in enumerate(self.plan.nodes):
            if index and self.run.happens(_PAUSE_ODDS):
                yield from self._pause(index)
            before = yield from self._hand_over(before, node)
            yield self._state(before, "idle", "working", f"node {node.node_id} is due")
            yield from self._node(index, node, before)
            if self._broken is not None:
                yield self._state(before, "working", "blocked", self._broken)
                return
            yield self._state(before, "working", "idle", f"node {node.node_id} is done")

    def _pause(self, index: int) -> Iterator[GeneratedEvent]:
        done = [node.node_id for node in self.plan.nodes[:index]]
        yield self.run.event(
            WorkflowPausedEvent,
            None,
            pause_reason="a person must agree before it goes on",
            checkpoint={"done": done},
            pending_tasks=[node.node_id for node in self.plan.nodes[index:]],
        )
        took_ms = self.run.wait(_PAUSE_MS, 0.8)
        yield self.run.event(
            WorkflowResumedEvent,
            None,
            resume_reason="agreed",
            checkpoint={"done": done},
            paused_duration_ms=took_ms,
        )

    def _hand_over(
        self, before: Agent | None, node: Node
    ) -> Generator[GeneratedEvent, None, Agent]:
        """Bring in the agent of a node; another agent before it sends a message."""
        run = self.run
        agent = self._agents.get(node.role)
        if agent is None:
            agent = Agent(agent_id=run.new_id(), role=node.role, since=run.now)
            self._agents[node.role] = agent
            yield run.event(
                AgentStartedEvent, agent, agent_name=f"{node.role}-1", agent_type=node.role
            )
        if before is None or before is agent:
            return agent
        message_id = str(run.new_id())
        yield run.event(
            MessagePublishedEvent,
            before,
            message_id=message_id,
            from_agent=before.role,
            to_agent=agent.role,
            message_type="hand_over",
            message_content={"next": node.node_id, "note": fill_in(run.rng, "see {file}")},
        )
        latency_ms = run.wait(40, 0.5)
        yield run.event(
            MessageReceivedEvent,
            agent,
            message_id=message_id,
            from_agent=before.role,
            processing_status="accepted",
            delivery_latency_ms=latency_ms,
        )
        return agent

    def _state(self, agent: Agent, before: str, after: str, reason: str) -> GeneratedEvent:
        return self.run.event(
            AgentStateChangedEvent,
            agent,
            previous_state=before,
            new_state=after,
            state_transition_reason=reason,
        )

    def _node(self, index: int, node: Node, agent: Agent) -> Iterator[GeneratedEvent]:
        run = self.run
        following = [later.node_id for later in self.plan.nodes[index + 1 : index + 2]]
        calls, failed = run.calls, run.failed
        yield run.event(
            NodeExecutingEvent,
            agent,
            node_id=node.node_id,
            node_type=node.node_type,
            node_name=node.title,
            dependencies_satisfied=[earlier.node_id for earlier in self.plan.nodes[:index]],
            assigned_agent=node.role,
        )
        yield self._think(node, agent)
        if node.asks is not None:
            yield self._question(node.asks, agent)
        for tool in self._tools(node):
            yield from self._call(node, tool, agent)
            if self._broken is not None:
                yield self._node_failed(node, agent, self._broken, following)
                return
        if node.node_type == "measurement":
            yield health_check(run, agent, str(word(run.rng, "service")), good=True)
        if node.learns is not None:
            yield from self._learn(node.learns, agent)
        yield run.event(
            NodeCompletedEvent,
            agent,
            node_id=node.node_id,
            success=True,
            output_data={"tool_calls": run.calls - calls},
            retry_count=run.failed - failed,
            downstream_nodes=following,
        )

    def _node_failed(
        self, node: Node, agent: Agent, why: str, following: list[str]
    ) -> GeneratedEvent:
        return self.run.event(
            NodeFailedEvent,
            agent,
            node_id=node.node_id,
            error_type="RecoveryFailedError",
            error_message=why,
            retry_count=RETRIES,
            downstream_nodes=following,
        )

    def _call(self, node: Node, tool: ToolProfile, agent: Agent) -> Iterator[GeneratedEvent]:
        for made in call(self.run, node.node_id, tool, agent):
            event = made.event
            if isinstance(event, RecoveryCompletedEvent) and not event.success:
                issues = ", ".join(event.remaining_issues or [])
                self._broken = f"{tool.name} failed {RETRIES + 1} times: {issues}"
            yield made

    def _tools(self, node: Node) -> Iterator[ToolProfile]:
        for use in node.uses:
            for _ in range(self.run.rng.randint(use.least, use.most)):
                yield TOOLS[use.tool]

    def _think(self, node: Node, agent: Agent) -> GeneratedEvent:
        """Ask a model how to go about a node."""
        run = self.run
        took_ms = run.wait(1_500, 0.5)
        model = run.rng.choice(MODELS)
        return run.event(
            AgentCapabilityUtilizedEvent,
            agent,
            capability_name="chat",
            utilization_context=f"how to: {node.title}",
            input_parameters={
                "gen_ai.request.model": model,
                "gen_ai.request.temperature": 0.2,
            },
            capability_result={
                "gen_ai.response.finish_reasons": ["tool_calls"],
                "gen_ai.usage.input_tokens": round(run.draw(5_200, 0.8)),
                "gen_ai.usage.output_tokens": round(run.draw(260, 0.7)),
            },
            efficiency_score=round(run.rng.uniform(0.55, 0.99), 2),
            performance_metrics=PerformanceMetrics(execution_time_ms=took_ms),
        )

    def _question(self, text: str, agent: Agent) -> GeneratedEvent:
        run = self.run
        run.wait(60, 0.5)
        return run.event(
            SemanticQueryEvent,
            agent,
            query_text=fill_in(run.rng, text),
            query_embedding=run.embedding(),
            similarity_threshold=0.7,
            max_results=10,
            results_count=run.rng.randint(0, 10),
            search_strategy="cosine",
        )

    def _learn(self, text: str, agent: Agent) -> Iterator[GeneratedEvent]:
        run = self.run
        run.wait(35, 0.5)
        yield run.event(
            SemanticUpdateEvent,
            agent,
            operation_type="insert",
            content={"text": fill_in(run.rng, text)},
            content_embedding=run.embedding(),
            content_type="note",
            affected_records=1,
        )
        if run.happens(_CONSOLIDATION_ODDS):
            took_ms = run.wait(420, 0.6)
            before = run.rng.randint(20, 400)
            yield run.event(
                MemoryConsolidationEvent,
                agent,
                consolidation_type="near_duplicates",
                items_before=before,
                items_after=before - run.rng.randint(1, before // 4),
                duration_ms=took_ms,
            )

    def _tell_all(self) -> Iterator[GeneratedEvent]:
        """Tell the agents how it went, when there are several."""
        agents = list(self._agents.values())
        if len(agents) > 1:
            yield self.run.event(
                BroadcastEvent,
                agents[0],
                from_agent=agents[0].role,
                message_type="outcome",
                message_content={"summary": self._broken or self.plan.result},
                target_agents=[agent.role for agent in agents[1:]],
            )

    def _leave(self) -> Iterator[GeneratedEvent]:
        ended = self.run.cause
        for agent in self._agents.values():
            self.run.cause = ended
            yield self.run.event(
                AgentStoppedEvent,
                agent,
                stop_reason="workflow ended",
                uptime_ms=milliseconds(self.run.now - agent.since),
            )
        for name in self.plan.brings:
            self.run.cause = ended
            yield self.run.event(ToolUnregisteredEvent, None, tool_name=name, reason="not in use")

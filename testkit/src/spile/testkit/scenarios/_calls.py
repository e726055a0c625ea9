"""Tool calls, how they fail, and how agents recover."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from spile.testkit.scenarios._run import Agent, Run, milliseconds
from spile.testkit.scenarios._values import Failure, GeneratedEvent, ToolProfile
from spile.testkit.scenarios._words import output, word
from spile.topics.events import (
    AgentPausedEvent,
    AgentResumedEvent,
    ConfigurationChangeEvent,
    FailureDetectedEvent,
    PerformanceMetrics,
    PostToolUseEvent,
    PreToolUseEvent,
    RecoveryCompletedEvent,
    RecoveryInitiatedEvent,
    SystemHealthCheckEvent,
)

RETRIES = 2
"""Tries after the first."""

_RESULT_LIMIT = 16_384
_THINKING_MS = 1_800.0
_LIMIT_MS = 120_000.0
_RELAPSE_ODDS = 0.2  # what failed a moment ago fails again more often


def call(run: Run, node_id: str, tool: ToolProfile, agent: Agent) -> Iterator[GeneratedEvent]:
    """
    Call a tool; when it fails, detect, recover, and call it again.

    The last event is a PostToolUse, or a RecoveryCompleted that says whether it helped.
    """
    run.wait(_THINKING_MS, 0.7)
    parameters = {name: word(run.rng, kind) for name, kind in tool.parameters.items()}
    failure = _chance(run, tool)
    yield from _attempt(run, tool, parameters, agent, failure, retry=0)
    if failure is None:
        return
    first, began = run.cause, run.now
    yield run.event(
        FailureDetectedEvent,
        agent,
        failure_type=failure.error_type,
        failure_description=_told(failure, tool, parameters),
        affected_component=tool.name,
        severity=failure.severity,
        error_details={"node": node_id, "event_id": str(first)},
        detection_method="tool_result",
    )
    again = yield from _recover(run, tool, parameters, agent, failure)
    yield run.event(
        RecoveryCompletedEvent,
        agent,
        recovery_strategy=failure.strategy,
        success=again is None,
        actual_recovery_time_ms=milliseconds(run.now - began),
        remaining_issues=None if again is None else [again.error_type],
    )


def _recover(
    run: Run, tool: ToolProfile, parameters: Mapping[str, str | int], agent: Agent, failure: Failure
) -> Generator[GeneratedEvent, None, Failure | None]:
    """Try again as the strategy says; return how the last try failed, None when it did not."""
    detected = run.cause
    run.wait(250, 0.5)
    yield run.event(
        RecoveryInitiatedEvent,
        agent,
        recovery_strategy=failure.strategy,
        trigger_failure=str(detected),
        recovery_steps=failure.strategy.split("_then_"),
    )
    yield from _prepare(run, tool, failure, agent)
    again: Failure | None = failure
    for retry in range(1, RETRIES + 1):
        run.wait(_THINKING_MS, 0.7)
        again = _chance(run, tool, at_least=_RELAPSE_ODDS)
        yield from _attempt(run, tool, parameters, agent, again, retry=retry)
        if again is None:
            break
    return again


def health_check(run: Run, agent: Agent | None, component: str, *, good: bool) -> GeneratedEvent:
    """Look at a component and what is around it."""
    run.wait(45, 0.4)
    return run.event(
        SystemHealthCheckEvent,
        agent,
        health_status="healthy" if good else "degraded",
        check_type="liveness",
        component_statuses={
            component: "up" if good else "unreachable",
            "memory_store": "up",
            "tool_host": "up",
        },
        performance_indicators={
            "cpu_percent": round(run.rng.uniform(5, 90), 1),
            "memory_mb": round(run.draw(600, 0.3), 1),
            "open_calls": run.rng.randint(0, 12),
        },
        alerts_triggered=None if good else [f"{component} does not answer"],
    )


def _prepare(
    run: Run, tool: ToolProfile, failure: Failure, agent: Agent
) -> Iterator[GeneratedEvent]:
    """Do what the strategy asks for before the next try."""
    if failure.strategy == "back_off_and_retry":
        yield run.event(AgentPausedEvent, agent, reason=failure.error_type)
        run.wait(2_000, 0.2)
        yield run.event(AgentResumedEvent, agent, reason="the limit is over")
    elif failure.strategy == "retry_with_longer_limit":
        yield run.event(
            ConfigurationChangeEvent,
            agent,
            component=f"tools.{tool.name}",
            changes={"timeout_ms": 2 * _LIMIT_MS},
            previous={"timeout_ms": _LIMIT_MS},
            changed_by=agent.role,
            reason=failure.error_type,
        )
    elif failure.severity == "high":
        yield health_check(run, agent, tool.name, good=False)


def _attempt(
    run: Run,
    tool: ToolProfile,
    parameters: Mapping[str, str | int],
    agent: Agent,
    failure: Failure | None,
    *,
    retry: int,
) -> Iterator[GeneratedEvent]:
    yield run.event(
        PreToolUseEvent,
        agent,
        tool_name=tool.name,
        tool_version=tool.version,
        parameters=dict(parameters),
        timeout_ms=_LIMIT_MS,
    )
    took_ms = run.wait(tool.median_ms, tool.spread)
    run.calls += 1
    run.failed += failure is not None
    outcome = _outcome(run, tool, parameters, failure)
    yield run.event(
        PostToolUseEvent,
        agent,
        tool_name=tool.name,
        success=failure is None,
        retry_count=retry,
        execution_time_ms=took_ms,
        performance_metrics=PerformanceMetrics(
            execution_time_ms=took_ms,
            memory_usage_mb=round(run.draw(90, 0.5), 1),
            cpu_usage_percent=round(run.rng.uniform(1, 95), 1),
        ),
        **outcome,
    )


def _outcome(
    run: Run, tool: ToolProfile, parameters: Mapping[str, str | int], failure: Failure | None
) -> dict[str, Any]:
    """Return what a tool gives back; a result that is too long is cut, and says so."""
    if failure is not None:
        return {"error": _told(failure, tool, parameters), "error_type": failure.error_type}
    size = min(round(run.draw(tool.result_bytes, 0.9)), 4 * _RESULT_LIMIT)
    outcome: dict[str, Any] = {"result": {"text": output(run.rng, min(size, _RESULT_LIMIT))}}
    if size > _RESULT_LIMIT:
        outcome |= {"result_truncated": True, "full_result_size": size}
    return outcome


def _chance(run: Run, tool: ToolProfile, *, at_least: float = 0.0) -> Failure | None:
    """Decide whether a call fails, and how."""
    odds = max(tool.failure_odds, at_least)
    return run.rng.choice(tool.failures) if run.happens(odds) else None


def _told(failure: Failure, tool: ToolProfile, parameters: Mapping[str, str | int]) -> str:
    """Return what the tool says, filled in with what the call was about."""
    facts = {kind: str(parameters[name]) for name, kind in tool.parameters.items()}
    return failure.message.format_map(_Known(facts))


class _Known(dict[str, str]):
    def __missing__(self, kind: str) -> str:
        return kind

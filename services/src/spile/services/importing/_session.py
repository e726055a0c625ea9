"""One recorded session: its ids, its clock, and the events that its entries become."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from spile.services.importing._records import Format, ImportedEvent, Observation
from spile.services.importing._values import content_id, fit_object, fit_text
from spile.topics import correlation_uuid
from spile.topics.events import (
    AgentCapabilityUtilizedEvent,
    AgentStartedEvent,
    EventMetadata,
    FailureDetectedEvent,
    MemoryConsolidationEvent,
    MessagePublishedEvent,
    PostToolUseEvent,
    PreToolUseEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)

# Where a recording has no times, entries follow one another by this much.
STEP = timedelta(milliseconds=1)
MAIN_AGENT = "main"
UNKNOWN_TOOL = "unknown"
_SHORT_BYTES = 2_000
_NAME_CHARACTERS = 200

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a tool answered.

    Attributes:
        text: its output, or the error text when `success` is False.
        error_type: a short name of the kind of error.
        duration_ms: the time that the recording states, else None: then call and result tell it.
        timed: False where the times of call and result do not tell how long this one call took.
    """

    text: str
    success: bool = True
    error_type: str | None = None
    duration_ms: float | None = None
    timed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    tool_name: str
    event_id: str
    agent_id: UUID
    time: datetime | None


class Session:
    """
    Makes the events of one session, with ids that depend on content alone.

    An event's id is the UUIDv5 of format, session, entry and part: never of the file's path or
    the time of import. The session's id serves as workflow id and correlation id too. `at` sets
    line and time for the events that follow; without a time the clock goes on by `STEP` and the
    events say `"time": "synthetic"` in their metadata.
    """

    def __init__(self, *, key: str, recorded: Format, file: Path, start: datetime) -> None:
        self.key = key
        self.id = correlation_uuid(key)
        self.ended = False
        self._format: Format = recorded
        self._file = file
        self._line = 0
        self._now = start
        self._synthetic = True
        self._calls: dict[str, _Call] = {}

    @property
    def now(self) -> datetime:
        """The time of the event that comes next."""
        return self._now

    def at(self, line: int, time: datetime | None) -> None:
        """Place what follows: its line, and its time where the recording says it."""
        self._line = line
        self._synthetic = time is None
        self._now = self._now + STEP if time is None else time

    def advance(self, by: timedelta) -> None:
        """Let synthetic time pass, as much as a tool is known to have taken."""
        self._now += by

    def agent(self, name: str) -> UUID:
        """Give the id of an agent of this session; a name that is a UUID stays itself."""
        try:
            return UUID(name)
        except ValueError:
            return content_id(self._format, self.key, "agent", name)

    def started(
        self, name: str, definition: Mapping[str, Any], context: Mapping[str, Any]
    ) -> ImportedEvent:
        """The session began."""
        identity, common = self._common("session", "started")
        event = WorkflowStartedEvent(
            **common,
            workflow_name=name,
            workflow_definition=fit_object(dict(definition), 400_000),
            initial_context=fit_object(dict(context), 400_000),
        )
        return self._made("WORKFLOW_STARTED", event, identity)

    def finished(
        self, entry: str, status: Status, reason: str, *, result: Mapping[str, Any] | None = None
    ) -> ImportedEvent:
        """The session came to its end."""
        self.ended = True
        identity, common = self._common(entry, "ended")
        event = WorkflowEndedEvent(
            **common,
            status=status,
            completion_reason=fit_text(reason, _SHORT_BYTES)[0],
            final_result=fit_object(dict(result or {})),
        )
        return self._made("WORKFLOW_ENDED", event, identity)

    def agent_started(self, entry: str, agent: str, kind: str) -> ImportedEvent:
        """Another agent joined the session."""
        identity, common = self._common(entry, "agent-started")
        event = AgentStartedEvent(
            **common,
            agent_id=self.agent(agent),
            agent_name=agent[:_NAME_CHARACTERS],
            agent_type=kind,
        )
        return self._made("AGENT_STARTED", event, identity)

    def prompt(self, entry: str, part: int, text: str, *, sender: str, agent: str) -> ImportedEvent:
        """Somebody told the agent what to do."""
        identity, common = self._common(entry, "prompt", part)
        shown, size = fit_text(text)
        content: dict[str, Any] = {"text": shown}
        if size is not None:
            content["truncated_from_bytes"] = size
        event = MessagePublishedEvent(
            **common,
            message_id=str(identity),
            from_agent=sender,
            to_agent=str(self.agent(agent)),
            message_type="prompt",
            message_content=content,
        )
        return self._made("MESSAGE_PUBLISHED", event, identity)

    def thought(
        self, entry: str, part: int, text: str, *, agent: str = MAIN_AGENT, spoken: bool = False
    ) -> ImportedEvent:
        """The agent thought (`reasoning`), or said something to its user (`response`)."""
        identity, common = self._common(entry, "thought", part)
        event = AgentCapabilityUtilizedEvent(
            **common,
            agent_id=self.agent(agent),
            capability_name="response" if spoken else "reasoning",
            utilization_context=fit_text(text)[0],
        )
        return self._made("AGENT_CAPABILITY_UTILIZED", event, identity)

    def call(
        self,
        entry: str,
        part: int,
        call_id: str,
        *,
        tool_name: str,
        parameters: dict[str, Any],
        agent: str = MAIN_AGENT,
    ) -> ImportedEvent:
        """The agent called a tool; `result` with the same `call_id` answers it."""
        identity, common = self._common(entry, "call", part)
        agent_id = self.agent(agent)
        tool_name = tool_name[:_NAME_CHARACTERS] or UNKNOWN_TOOL
        event = PreToolUseEvent(
            **common, agent_id=agent_id, tool_name=tool_name, parameters=fit_object(parameters)
        )
        made = self._made("PRE_TOOL_USE", event, identity)
        self._calls[call_id] = _Call(
            tool_name=tool_name,
            event_id=made.event_id,
            agent_id=agent_id,
            time=None if self._synthetic else self._now,
        )
        return made

    def result(
        self, entry: str, part: int, call_id: str, outcome: Outcome, *, agent: str = MAIN_AGENT
    ) -> ImportedEvent:
        """A tool answered; an answer to a call that the recording lacks names tool `unknown`."""
        identity, common = self._common(entry, "result", part)
        call = self._calls.get(call_id)
        name = call.tool_name if call else UNKNOWN_TOOL
        duration = outcome.duration_ms
        if duration is None and outcome.timed:
            duration = self._elapsed(call)
        text, size = fit_text(outcome.text)
        event = PostToolUseEvent(
            **common,
            agent_id=call.agent_id if call else self.agent(agent),
            tool_name=name,
            success=outcome.success,
            result=text if outcome.success else None,
            error=None if outcome.success else text,
            error_type=outcome.error_type,
            result_truncated=True if size is not None else None,
            full_result_size=size,
            execution_time_ms=duration,
        )
        seen = Observation(tool_name=name, success=outcome.success, duration_ms=duration)
        cause = call.event_id if call else None
        return self._made("POST_TOOL_USE", event, identity, causation_id=cause, observation=seen)

    def failure(
        self,
        entry: str,
        part: int,
        *,
        kind: str,
        text: str,
        component: str,
        severity: Severity,
        details: Mapping[str, Any] | None = None,
        agent: str = MAIN_AGENT,
    ) -> ImportedEvent:
        """Something failed that is not the answer of a tool."""
        identity, common = self._common(entry, "failure", part)
        event = FailureDetectedEvent(
            **common,
            agent_id=self.agent(agent),
            failure_type=kind[:_NAME_CHARACTERS],
            failure_description=fit_text(text, 400_000)[0],
            affected_component=component,
            severity=severity,
            error_details=fit_object(dict(details or {}), 400_000),
        )
        return self._made("FAILURE_DETECTED", event, identity)

    def compacted(self, entry: str, summary: Mapping[str, Any]) -> ImportedEvent:
        """The agent's context was condensed."""
        identity, common = self._common(entry, "compacted")
        event = MemoryConsolidationEvent(
            **common,
            agent_id=self.agent(MAIN_AGENT),
            consolidation_type="compaction",
            summary=fit_object(dict(summary)),
        )
        return self._made("MEMORY_CONSOLIDATION", event, identity)

    def _common(self, *parts: str | int) -> tuple[UUID, dict[str, Any]]:
        identity = content_id(self._format, self.key, *parts)
        return identity, {
            "event_id": identity,
            "timestamp": self._now,
            "session_id": self.id,
            "workflow_id": self.id,
            "metadata": EventMetadata(correlation_id=self.id),
        }

    def _elapsed(self, call: _Call | None) -> float | None:
        if call is None or call.time is None or self._synthetic:
            return None
        elapsed = (self._now - call.time) / timedelta(milliseconds=1)
        return elapsed if elapsed >= 0 else None

    def _made(
        self,
        event_type: str,
        event: BaseModel,
        identity: UUID,
        *,
        causation_id: str | None = None,
        observation: Observation | None = None,
    ) -> ImportedEvent:
        metadata: dict[str, Any] = {
            "imported_from": self._format,
            "session": self.key[:_NAME_CHARACTERS],
        }
        if self._synthetic:
            metadata["time"] = "synthetic"
        return ImportedEvent(
            event_type=event_type,
            event=event,
            event_id=str(identity),
            correlation_id=str(self.id),
            causation_id=causation_id,
            timestamp=self._now,
            session=self.key,
            format=self._format,
            file=self._file,
            line=self._line,
            metadata=metadata,
            observation=observation,
        )

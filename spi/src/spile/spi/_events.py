"""Generic events of the agents' world: data values, agent events, work and its orchestration."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable
from uuid import UUID

from spile.spi._types import ContextValue, ProtocolDateTime


@runtime_checkable
class ProtocolEventData(Protocol):
    """A value that an event may carry."""

    async def validate_for_transport(self) -> bool:
        """Return whether the value can be encoded."""
        ...


@runtime_checkable
class ProtocolEventStringData(ProtocolEventData, Protocol):
    """A text."""

    value: str


@runtime_checkable
class ProtocolEventStringListData(ProtocolEventData, Protocol):
    """A list of texts."""

    value: list[str]


@runtime_checkable
class ProtocolEventStringDictData(ProtocolEventData, Protocol):
    """A mapping from names to context values."""

    value: dict[str, ContextValue]


@runtime_checkable
class ProtocolEvent(Protocol):
    """A generic event."""

    event_type: str
    event_data: dict[str, ProtocolEventData]
    correlation_id: UUID
    timestamp: ProtocolDateTime
    source: str

    async def validate_event(self) -> bool:
        """Return whether the event keeps its contract."""
        ...


@runtime_checkable
class ProtocolAgentEvent(Protocol):
    """Something that happened to an agent."""

    agent_id: str
    event_type: Literal["created", "started", "stopped", "error", "heartbeat"]
    timestamp: ProtocolDateTime
    correlation_id: UUID
    metadata: dict[str, ContextValue]

    async def validate_agent_event(self) -> bool:
        """Return whether the event keeps its contract."""
        ...


@runtime_checkable
class ProtocolWorkResult(Protocol):
    """What came of a work ticket; times in milliseconds."""

    work_ticket_id: str
    result_type: Literal["success", "failure", "timeout", "cancelled"]
    result_data: dict[str, ContextValue]
    execution_time_ms: int
    error_message: str | None
    metadata: dict[str, ContextValue]

    async def validate_work_result(self) -> bool:
        """Return whether the result keeps its contract."""
        ...


@runtime_checkable
class ProtocolProgressUpdate(Protocol):
    """How far a piece of work is; 0 to 100 percent."""

    work_item_id: str
    progress_percentage: float
    status_message: str
    estimated_completion: ProtocolDateTime | None
    metadata: dict[str, ContextValue]

    async def validate_progress_update(self) -> bool:
        """Return whether the update keeps its contract."""
        ...


@runtime_checkable
class ProtocolEventOrchestrator(Protocol):
    """Gives out work tickets to agents and follows what becomes of them."""

    async def handle_work_ticket_created(
        self, work_ticket_id: str, context: dict[str, ContextValue]
    ) -> None:
        """Take a new ticket; the same id twice is one ticket."""
        ...

    async def assign_work_to_agent(self, work_ticket_id: str, agent_id: str) -> bool:
        """Return whether the agent took the ticket."""
        ...

    async def handle_agent_progress_update(self, update: ProtocolProgressUpdate) -> None:
        """Note how far the work is."""
        ...

    async def handle_work_completion(self, result: ProtocolWorkResult) -> None:
        """Note a result; the same one twice is one result."""
        ...

    async def handle_agent_error(self, event: ProtocolAgentEvent) -> None:
        """Note a failure, and give the work to another agent where the rules allow."""
        ...

    async def get_workflow_metrics(self) -> dict[str, ContextValue]:
        """Return counters of tickets, results and failures."""
        ...

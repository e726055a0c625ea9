"""Events of tools and their calls."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonAny, JsonArray, JsonObject
from spile.topics._strict import Count, Milliseconds, Name
from spile.topics._wire import Id
from spile.topics.events.observability._base import ObservabilityEvent


class _ToolEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["tool"] = "tool"


class PreToolUseEvent(_ToolEvent, frozen=True):
    """A tool is about to be called."""

    event_type: Literal["PreToolUse"] = "PreToolUse"
    agent_id: Id  # pyright: ignore[reportGeneralTypeIssues] - keyword only
    tool_name: Name
    parameters: JsonObject
    tool_version: str | None = None
    expected_output_type: str | None = None
    timeout_ms: Milliseconds | None = None
    retry_policy: JsonObject | None = None


class PostToolUseEvent(_ToolEvent, frozen=True):
    """A tool call is over."""

    event_type: Literal["PostToolUse"] = "PostToolUse"
    agent_id: Id  # pyright: ignore[reportGeneralTypeIssues] - keyword only
    tool_name: Name
    success: bool
    result: JsonAny | None = None
    error: str | None = None
    error_type: str | None = None
    retry_count: Count | None = None
    result_truncated: bool | None = None
    full_result_size: Count | None = None
    execution_time_ms: Milliseconds | None = None


class _DescribedToolEvent(_ToolEvent, frozen=True):
    tool_name: Name
    tool_version: str | None = None
    description: str | None = None
    capabilities: JsonArray | None = None
    parameters_schema: JsonObject | None = None
    changes: JsonObject | None = None


class ToolRegisteredEvent(_DescribedToolEvent, frozen=True):
    """A tool became known."""

    event_type: Literal["ToolRegistered"] = "ToolRegistered"


class ToolUpdatedEvent(_DescribedToolEvent, frozen=True):
    """A tool changed."""

    event_type: Literal["ToolUpdated"] = "ToolUpdated"


class ToolUnregisteredEvent(_ToolEvent, frozen=True):
    """A tool is gone."""

    event_type: Literal["ToolUnregistered"] = "ToolUnregistered"
    tool_name: Name
    reason: str | None = None

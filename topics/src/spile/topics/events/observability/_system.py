"""Events of the system's health and settings."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonArray, JsonObject
from spile.topics._strict import Name
from spile.topics.events.observability._base import ObservabilityEvent


class _SystemEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["system"] = "system"


class SystemHealthCheckEvent(_SystemEvent, frozen=True):
    """The health of the system was looked at."""

    event_type: Literal["SystemHealthCheck"] = "SystemHealthCheck"
    health_status: Literal["healthy", "degraded", "unhealthy"]
    check_type: Name
    component_statuses: JsonObject
    performance_indicators: JsonObject
    alerts_triggered: JsonArray | None = None
    recommended_actions: JsonArray | None = None


class ConfigurationChangeEvent(_SystemEvent, frozen=True):
    """A setting changed."""

    event_type: Literal["ConfigurationChange"] = "ConfigurationChange"
    component: Name
    changes: JsonObject
    changed_by: str | None = None
    previous: JsonObject | None = None
    reason: str | None = None

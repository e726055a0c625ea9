"""Events of failures and recoveries."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonArray, JsonObject
from spile.topics._strict import Milliseconds, Name
from spile.topics.events.observability._base import ObservabilityEvent


class _RecoveryEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["recovery"] = "recovery"


class FailureDetectedEvent(_RecoveryEvent, frozen=True):
    """Something failed."""

    event_type: Literal["FailureDetected"] = "FailureDetected"
    failure_type: Name
    failure_description: str
    affected_component: Name
    severity: Literal["low", "medium", "high", "critical"]
    error_details: JsonObject
    detection_method: str | None = None
    impact_assessment: JsonObject | None = None


class RecoveryInitiatedEvent(_RecoveryEvent, frozen=True):
    """A recovery begins."""

    event_type: Literal["RecoveryInitiated"] = "RecoveryInitiated"
    recovery_strategy: Name
    trigger_failure: str
    recovery_steps: JsonArray
    estimated_recovery_time_ms: Milliseconds | None = None
    backup_systems_activated: JsonArray | None = None
    rollback_checkpoint: str | None = None


class RecoveryCompletedEvent(_RecoveryEvent, frozen=True):
    """A recovery is over."""

    event_type: Literal["RecoveryCompleted"] = "RecoveryCompleted"
    recovery_strategy: Name
    success: bool
    actual_recovery_time_ms: Milliseconds | None = None
    lessons_learned: JsonArray | None = None
    remaining_issues: JsonArray | None = None

"""Episodes: what one agent did in one run, step by step."""

from spile.topics.events.episodes._events import EpisodeStatusChangedEvent, StepRecordedEvent
from spile.topics.events.episodes._steps import (
    Artifact,
    Episode,
    EpisodeStatus,
    ErrorStep,
    Observation,
    ObservationStep,
    Step,
    StepFailure,
    Thought,
    ThoughtStep,
    ToolCall,
    ToolCallStep,
)

__all__ = [
    "Artifact",
    "Episode",
    "EpisodeStatus",
    "EpisodeStatusChangedEvent",
    "ErrorStep",
    "Observation",
    "ObservationStep",
    "Step",
    "StepFailure",
    "StepRecordedEvent",
    "Thought",
    "ThoughtStep",
    "ToolCall",
    "ToolCallStep",
]

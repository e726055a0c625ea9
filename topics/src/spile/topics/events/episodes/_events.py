"""What the bus says of episodes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from spile.topics._ids import uuid7
from spile.topics._strict import Strict, now
from spile.topics._wire import Id, Instant
from spile.topics.events.episodes._steps import Artifact, Episode, EpisodeStatus, Step


class EpisodeStatusChangedEvent(Strict, frozen=True):
    """
    An episode began, ended, or was cancelled.

    `event_id` is a UUIDv7 and `timestamp` the present unless given.

    Attributes:
        episode: The episode as it stands now.
        previous_status: How it stood before; None when it begins.
    """

    event_id: Id = Field(default_factory=uuid7)
    event_type: Literal["EpisodeStatusChanged"] = "EpisodeStatusChanged"
    timestamp: Instant = Field(default_factory=now)
    episode: Episode
    previous_status: EpisodeStatus | None = None


class StepRecordedEvent(Strict, frozen=True):
    """
    A step of an episode was logged.

    `event_id` is a UUIDv7 and `timestamp` the present unless given.

    Attributes:
        step: The step.
        artifacts: The files of this step.
    """

    event_id: Id = Field(default_factory=uuid7)
    event_type: Literal["StepRecorded"] = "StepRecorded"
    timestamp: Instant = Field(default_factory=now)
    step: Step
    artifacts: list[Artifact] = Field(default_factory=list[Artifact])

    @model_validator(mode="after")
    def _check_artifacts(self) -> Self:
        for number, artifact in enumerate(self.artifacts):
            if artifact.step_id != self.step.step_id:
                raise ValueError(f"artifacts.{number}.step_id must be the id of the step")
        return self

"""Episodes, their steps and their files, as values."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, cast

from pydantic import Discriminator, Field, Tag

from spile.topics._json import JsonAny, JsonObject
from spile.topics._strict import Count, Name, Sha256, Strict
from spile.topics._wire import Id, Instant

EpisodeStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled"]
"""How an episode stands; all but `running` are final."""


class Episode(Strict, frozen=True):
    """
    One run of an agent on one problem.

    Attributes:
        agent_role: What the agent is there for.
        problem: What it was asked to do.
        ended_at: None as long as it runs.
        metadata: More facts, defined by the caller.
    """

    episode_id: Id
    agent_role: Name
    problem: str
    status: EpisodeStatus
    started_at: Instant
    ended_at: Instant | None = None
    metadata: JsonObject = Field(default_factory=dict)


class Thought(Strict, frozen=True):
    """What an agent thought."""

    text: str


class ToolCall(Strict, frozen=True):
    """
    A call of a tool.

    Attributes:
        call_id: What observations and errors name the call by; unique in its episode.
    """

    call_id: Name
    tool_name: Name
    arguments: JsonObject = Field(default_factory=dict)


class Observation(Strict, frozen=True):
    """
    What an agent saw: the result of a tool call, or something from outside.

    Attributes:
        result: Any JSON value.
        call_id: The tool call that it answers.
    """

    result: JsonAny
    call_id: Name | None = None


class StepFailure(Strict, frozen=True):
    """
    What went wrong.

    Attributes:
        error_type: Class of the exception, or another short name.
        tool_call: The call that it belongs to, whole: both are read side by side.
    """

    error_type: Name
    message: str
    traceback: str | None = None
    tool_call: ToolCall | None = None


class _AtomicStep(Strict, frozen=True):
    """
    One atomic action in an episode.

    Attributes:
        sequence: 0, 1, 2 ... without holes in an episode, given by the store or the SDK.
        agent_role: Who acted.
        timestamp: When; not what orders the steps.
    """

    step_id: Id
    episode_id: Id
    sequence: Count
    agent_role: Name
    timestamp: Instant


class ThoughtStep(_AtomicStep, frozen=True):
    """A step that is a thought."""

    kind: Literal["thought"] = "thought"
    content: Thought


class ToolCallStep(_AtomicStep, frozen=True):
    """A step that is a tool call."""

    kind: Literal["tool_call"] = "tool_call"
    content: ToolCall


class ObservationStep(_AtomicStep, frozen=True):
    """A step that is an observation."""

    kind: Literal["observation"] = "observation"
    content: Observation


class ErrorStep(_AtomicStep, frozen=True):
    """A step that is an error."""

    kind: Literal["error"] = "error"
    content: StepFailure


def _kind(value: object) -> str | None:
    found: object = (
        cast("dict[str, object]", value).get("kind")
        if isinstance(value, dict)
        else getattr(value, "kind", None)
    )
    return found if isinstance(found, str) else None


# A function, not the field's name: pydantic's own error would quote the value.
Step: TypeAlias = Annotated[
    Annotated[ThoughtStep, Tag("thought")]
    | Annotated[ToolCallStep, Tag("tool_call")]
    | Annotated[ObservationStep, Tag("observation")]
    | Annotated[ErrorStep, Tag("error")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="kind must be thought, tool_call, observation or error",
    ),
]
"""A step of any kind; `kind` says which."""


class Artifact(Strict, frozen=True):
    """
    A file that a step made or used.

    Attributes:
        uri: Where it lies.
        size: Bytes.
        sha256: Hash of its content, lower-case hex.
    """

    artifact_id: Id
    step_id: Id
    uri: Name
    media_type: Name
    size: Count
    sha256: Sha256

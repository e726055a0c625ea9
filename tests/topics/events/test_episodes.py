"""Episodes: typed steps, files of steps, and what the bus says of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from spile.spi import InvalidEventError
from spile.topics import default_catalogue
from spile.topics.events import (
    Artifact,
    Episode,
    EpisodeStatusChangedEvent,
    ErrorStep,
    StepFailure,
    StepRecordedEvent,
    Thought,
    ThoughtStep,
    ToolCall,
    ToolCallStep,
    parse,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _common(**more: Any) -> dict[str, Any]:
    return {
        "step_id": uuid4(),
        "episode_id": uuid4(),
        "sequence": 0,
        "agent_role": "engineer",
        "timestamp": NOW,
        **more,
    }


def _prepare(event):
    kind = {"EpisodeStatusChangedEvent": "EPISODE_STATUS_CHANGED"}.get(type(event).__name__)
    route = default_catalogue().resolve(kind or "STEP_RECORDED", environment="dev", service="agent")
    return route, route.contract.prepare(event)


def test_each_kind_has_its_content():
    """A step's kind decides what its content must be."""
    step = ThoughtStep(**_common(), content=Thought(text="hm"))
    event = parse(StepRecordedEvent(step=step).model_dump_json())
    assert event.step == step
    wrong = StepRecordedEvent(step=step).model_dump(mode="json")
    wrong["step"]["kind"] = "tool_call"
    with pytest.raises(InvalidEventError, match="call_id"):
        parse(wrong)


def test_an_unknown_kind_is_refused_without_quoting_it():
    """The error names the four kinds."""
    wrong = StepRecordedEvent(step=ThoughtStep(**_common(), content=Thought(text="hm")))
    data = wrong.model_dump(mode="json")
    data["step"]["kind"] = "s3cret"
    with pytest.raises(
        InvalidEventError, match="thought, tool_call, observation or error"
    ) as caught:
        parse(data)
    assert caught.value.field == "step"
    assert "s3cret" not in str(caught.value)


def test_an_error_stands_beside_its_tool_call():
    """Message, type and traceback, and the whole call that failed."""
    call = ToolCall(call_id="c1", tool_name="bash", arguments={"command": "ls"})
    failed = StepFailure(error_type="OSError", message="no", traceback="File ...", tool_call=call)
    step = ErrorStep(**_common(sequence=3), content=failed)
    read = parse(StepRecordedEvent(step=step).model_dump_json()).step
    assert (read.content.tool_call, read.content.traceback) == (call, "File ...")
    assert ToolCallStep(**_common(), content=call).kind == "tool_call"


def test_artifacts_are_of_the_step():
    """A file of another step is refused."""
    step = ThoughtStep(**_common(), content=Thought(text="hm"))
    file = {
        "artifact_id": uuid4(),
        "uri": "s3://a/b.stl",
        "media_type": "model/stl",
        "size": 5,
        "sha256": "0" * 64,
    }
    own = Artifact(**file, step_id=step.step_id)
    assert StepRecordedEvent(step=step, artifacts=[own]).artifacts == [own]
    with pytest.raises(ValidationError, match=r"artifacts\.0\.step_id"):
        StepRecordedEvent(step=step, artifacts=[Artifact(**file, step_id=uuid4())])
    with pytest.raises(ValidationError, match="sha256"):
        Artifact(**{**file, "sha256": "0" * 63}, step_id=step.step_id)


def test_an_episode_keeps_its_order():
    """Both events are keyed by the episode, which is their correlation id; ids are lent."""
    episode = Episode(
        episode_id=uuid4(), agent_role="engineer", problem="fix", status="running", started_at=NOW
    )
    changed = EpisodeStatusChangedEvent(episode=episode)
    recorded = StepRecordedEvent(
        step=ThoughtStep(**_common(episode_id=episode.episode_id), content=Thought(text="hm"))
    )
    topics = []
    for event in (changed, recorded):
        for payload in (event, event.model_dump(mode="json")):
            route, prepared = _prepare(event)
            prepared = route.contract.prepare(payload)
            assert prepared.key == prepared.correlation_id == str(episode.episode_id)
            assert prepared.event_id == str(event.event_id)
        topics.append(route.topic)
    assert topics == ["dev.agent.episode.status-changed.v1", "dev.agent.episode.step-recorded.v1"]


def test_a_status_is_one_of_four():
    """Running, completed, failed, cancelled."""
    with pytest.raises(ValidationError, match="running"):
        Episode(episode_id=uuid4(), agent_role="a", problem="", status="lost", started_at=NOW)

"""Events of other families in the store: found by session and tool, stored as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventPublisher
from spile.adapters.wire import MessagePackForm
from spile.services.persistence import Decoder, EventFilter, PersistenceHandler
from spile.topics import default_catalogue
from spile.topics.events import (
    SessionEndEvent,
    SessionStartEvent,
    StepRecordedEvent,
    ToolCall,
    ToolCallStep,
)

CATALOGUE = default_catalogue()


@pytest.fixture
def persist(store):
    """Publish events, and store what came out of it."""

    async def run(*events, form=None):
        cluster = MemoryCluster.of_catalogue(CATALOGUE, "dev")
        publisher = EventPublisher(
            cluster.sender(), CATALOGUE, environment="dev", service="agent", form=form
        )
        handle = PersistenceHandler(
            store,
            Decoder(CATALOGUE, "dev"),
            DeadLetterQueue(cluster.sender()),
            group="persistence",
        )
        for kind, event in events:
            assert await publisher.publish(kind, event)
        await handle(cluster.history)

    return run


async def test_a_session_is_found_whole(persist, store):
    """Its start has no session id: it is the session's id."""
    start = SessionStartEvent.create("agent", "Shell")
    end = SessionEndEvent.create(start.event_id)
    await persist(("SESSION_START", start), ("SESSION_END", end))
    found = await store.query(EventFilter(session_id=start.event_id))
    assert {event.event_type for event in found} == {"SESSION_START", "SESSION_END"}


async def test_a_step_is_found_by_its_tool(persist, store):
    """The tool of a call stands deep in the step."""
    step = ToolCallStep(
        step_id=uuid4(),
        episode_id=uuid4(),
        sequence=0,
        agent_role="engineer",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        content=ToolCall(call_id="c1", tool_name="Grep"),
    )
    await persist(("STEP_RECORDED", StepRecordedEvent(step=step)))
    (found,) = await store.query(EventFilter(tool_name="Grep"))
    assert found.event_type == "STEP_RECORDED"


async def test_what_came_as_message_pack_is_stored_as_json_and_says_so(persist, store):
    """Envelope and headers of a row agree, whatever the record was encoded in."""
    start = SessionStartEvent.create("agent", "Shell")
    await persist(("SESSION_START", start), form=MessagePackForm())
    (found,) = await store.query(EventFilter())
    assert json.loads(found.envelope)["payload"]["event_id"] == start.event_id
    assert dict(json.loads(found.headers))["content_type"] == "application/json"

"""The events that every contestant moves: the same bytes, keys and headers for all."""

import random
import uuid
from datetime import UTC, datetime

from spile.adapters.delivery import OutgoingEvent, OutgoingRecord
from spile.adapters.publishing import EventEncoder
from spile.topics import default_catalogue

SERVICE = "bench"
ENVIRONMENT = "dev"
TOPIC = "dev.bench.tool.recorded.v1"
EVENT_TYPE = "PRE_TOOL_USE"
_TOOLS = ("Read", "Edit", "Bash", "Grep", "Write", "Task")


def payloads(count: int, *, seed: int = 7, sessions: int = 200) -> list[dict]:
    """Return tool calls of some sessions, as an application would hold them: plain mappings."""
    rng = random.Random(seed)
    ids = [
        [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in "sa"] for _ in range(sessions)
    ]
    made = []
    for number in range(count):
        session, agent = ids[rng.randrange(sessions)]
        made.append(
            {
                "event_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "event_type": "PreToolUse",
                "event_category": "tool",
                "agent_id": agent,
                "session_id": session,
                "payload": {
                    "tool_name": rng.choice(_TOOLS),
                    "parameters": {
                        "file_path": f"/src/module_{number % 97}/handler.py",
                        "limit": number % 2000,
                    },
                },
            }
        )
    return made


def events(count: int, **options: int) -> list[OutgoingEvent]:
    """Return events ready for `publish_many`."""
    return [
        OutgoingEvent(event_type=EVENT_TYPE, payload=payload)
        for payload in payloads(count, **options)
    ]


def records(count: int, **options: int) -> list[OutgoingRecord]:
    """Return the records that spile makes of these events: what the others get ready-made."""
    encoder = EventEncoder(
        default_catalogue(services=(SERVICE,)), environment=ENVIRONMENT, service=SERVICE
    )
    return [encoder.encode(event).record for event in events(count, **options)]

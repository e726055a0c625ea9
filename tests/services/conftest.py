"""What the tests of the services share: records as a publisher makes them, and a store to fill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from spile.adapters.delivery import Record, plain_headers
from spile.services.persistence import Row, Run, SqliteEventStore
from spile.topics import encode_envelope, uuid7, uuid7_text

TOPIC = "dev.agent.tool.recorded.v1"

RecordMaker = Callable[..., Record]
RowMaker = Callable[..., Row]
RunMaker = Callable[..., Run]


@pytest.fixture
def make_record() -> RecordMaker:
    """Make a PRE_TOOL_USE record; every part can be replaced."""

    def make(offset: int = 0, **changes: Any) -> Record:
        event_id = changes.pop("event_id", None) or uuid7_text()
        correlation_id = changes.pop("correlation_id", None) or uuid7_text()
        timestamp = changes.pop("timestamp", "2026-01-02T03:04:05.000006Z")
        payload = changes.pop("payload", None) or (
            f'{{"event_id":"{event_id}","timestamp":"{timestamp}","event_type":"PreToolUse",'
            f'"event_category":"tool","agent_id":"{UUID(int=1)}","session_id":"{UUID(int=2)}",'
            f'"metadata":{{"schema_version":"1.1.0"}},'
            f'"payload":{{"tool_name":"Read","parameters":{{}}}}}}'
        )
        kind = changes.pop("event_type", "PRE_TOOL_USE")
        value = encode_envelope(
            event_id=event_id,
            event_type=kind,
            correlation_id=correlation_id,
            causation_id=None,
            timestamp=timestamp,
            service_json=b'"agent"',
            payload_json=payload.encode(),
        )
        headers = dict(
            plain_headers(source="agent", event_type=kind, now=datetime(2026, 1, 2, tzinfo=UTC))
        )
        headers |= {
            "content_type": b"application/json",
            "message_id": event_id.encode(),
            "correlation_id": correlation_id.encode(),
            "schema_version": b"1.1.0",
        }
        for name, header in changes.pop("headers", {}).items():
            if header is None:
                del headers[name]
            else:
                headers[name] = header
        fields: dict[str, Any] = {
            "topic": TOPIC,
            "partition": 0,
            "offset": offset,
            "timestamp": 1_767_323_045_000,
            "key": b"key",
            "value": value,
            "headers": tuple(headers.items()),
        }
        return Record(**(fields | changes))

    return make


@pytest.fixture
def make_row() -> RowMaker:
    """Make a row; every column can be replaced."""

    def make(offset: int = 0, **changes: Any) -> Row:
        row = Row(
            event_id=uuid7().bytes,
            topic=TOPIC,
            partition=0,
            offset=offset,
            recorded_ms=1_767_323_045_000 + offset,
            happened_us=1_767_323_045_000_000 + offset,
            event_type="PRE_TOOL_USE",
            service="agent",
            correlation_id=UUID(int=7).bytes,
            causation_id=None,
            session_id=None,
            agent_id=None,
            tool_name="Read",
            key=b"key",
            envelope="{}",
            headers="[]",
        )
        return row._replace(**changes)

    return make


@pytest.fixture
def make_run(make_row: RowMaker) -> RunMaker:
    """Make the run of a partition from one offset up to, not including, another."""

    def make(first: int, end: int, *, partition: int = 0, rows: Any = None) -> Run:
        if rows is None:
            rows = [make_row(offset, partition=partition) for offset in range(first, end)]
        return Run(partition=(TOPIC, partition), first=first, next=end, rows=rows)

    return make


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """File of the store."""
    return tmp_path / "events.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteEventStore]:
    """Open a new store."""
    async with SqliteEventStore(database) as opened:
        yield opened

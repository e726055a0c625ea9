"""
Write events of the present versions as golden files, which every later release must still read.

    .venv/bin/python scripts/make_golden.py tests/topics/schemas/golden

A file that is there is never written again: it is what that release wrote. Each line is one event
in every encoding, with the Avro schema's version that the fingerprint stands for.
"""  # noqa: INP001 - a program, no package

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from pydantic import BaseModel

from spile.testkit.scenarios import MockEventGenerator, with_related
from spile.topics import EventContract
from spile.topics.encodings import EventSerializer, SerializationFormat
from spile.topics.events import MODELS
from spile.topics.schemas import FAMILIES

START = datetime(2026, 1, 1, tzinfo=UTC)
CORRELATION = UUID("0190c8a0-0000-7000-8000-000000000001")
FAILURE: dict[str, Any] = {
    "error_code": "TIMEOUT",
    "error_message": "no answer within 5 s, again \u2713",
    "retryable": True,
    "error_details": {"attempts": [1, 2, None]},
    "processing_time_ms": 5000.5,
    "correlation_id": CORRELATION,
}
BY_HAND: dict[str, dict[str, Any]] = {
    "CODE_ANALYSIS_REQUESTED": {"operation_type": "PATTERN_EXTRACTION", "source_path": "src"},
    "CODE_ANALYSIS_COMPLETED": {
        "patterns": [{"name": "Repository", "confidence": 0.95, "use_cases": ["state"]}],
        "query_time_ms": 450.0,
        "total_count": 120,
        "metrics": {"files": 3},
    },
    "CODE_ANALYSIS_FAILED": {**FAILURE, "operation_type": "PATTERN_EXTRACTION"},
    "AGENT_ROUTING_REQUESTED": {
        "user_request": "make the queries faster",
        "context": {"domain": "database"},
        "options": {"max_recommendations": 3, "min_confidence": 0.7},
        "correlation_id": CORRELATION,
    },
    "AGENT_ROUTING_COMPLETED": {
        "recommendations": [{"agent_name": "tuner", "confidence": 0.92, "priority": 1}],
        "routing_metadata": {"routing_time_ms": 45.0, "cache_hit": False},
    },
    "AGENT_ROUTING_FAILED": FAILURE,
    "DEAD_LETTER": {
        "original_topic": "dev.agent.tool.recorded.v1",
        "original_partition": 2,
        "original_offset": 4711,
        "original_timestamp": START,
        "consumer_group": "persistence",
        "attempts": 4,
        "error_type": "ValueError",
        "error_message": "no",
        "error_digest": "ab" * 32,
        "first_failure": START,
        "last_failure": START,
        "key": {"encoding": "text", "data": "k"},
        "value": {"encoding": "base64", "data": "/wA="},
        "headers": [{"name": "h", "value": None}],
    },
    "AUDIT_COUNTED": {
        "source_id": CORRELATION,
        "service": "agent",
        "instance": "a1b2c3d4",
        "sequence": 3,
        "counted_until": START,
        "rows": [{"topic": "dev.agent.tool.recorded.v1", "minute": START, "acknowledged": 12}],
    },
}


def samples() -> dict[str, BaseModel]:
    """Return one event of every type."""
    found = {kind: MODELS[kind].model_validate(values) for kind, values in BY_HAND.items()}
    wanted = set(MODELS) - set(found)
    traffic = MockEventGenerator(seed=7, start=START).generate_traffic(lanes=1)
    for made in itertools.islice(with_related(traffic), 200_000):
        kind = next((k for k in wanted if MODELS[k] is type(made.event)), None)
        if kind is not None:
            found[kind] = made.event
            wanted.remove(kind)
        if not wanted:
            return found
    raise SystemExit(f"the generator made no {', '.join(sorted(wanted))}")


def lines(kinds: Iterator[str], events: dict[str, BaseModel]) -> Iterator[bytes]:
    """Write the events of one family."""
    for kind in sorted(kinds):
        event = events[kind]
        payload = EventContract(kind, MODELS[kind]).prepare(event).payload_json
        line: dict[str, Any] = {"event_type": kind, "payload": msgspec.json.decode(payload)}
        for form in SerializationFormat:
            data, _ = EventSerializer(form, max_payload_size=1_000_000).serialize(event)
            line[form.value] = base64.b64encode(data).decode()
        yield msgspec.json.encode(line)


def main() -> None:
    """Write the files that are not there."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and the folder
        raise SystemExit("say where: scripts/make_golden.py tests/topics/schemas/golden")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    events = samples()
    for family in FAMILIES.values():
        file = folder / f"{family.name}-{family.version}.jsonl"
        if family.models and not file.exists():
            file.write_bytes(b"\n".join([*lines(iter(family.models), events), b""]))
            sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()

"""
Events as bytes, side by side with the libraries that people would use instead.

    python -m bench encodings

CPU microseconds to encode and to decode one event of 627 bytes of JSON, and the same with an
embedding: the best of some thousand in each round, medians of the rounds, the contestants taking
turns. Who validates is marked; the others return plain dicts. Sizes are those of made-up traffic
and of the recorded session.
"""

import argparse
import io
import json
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from spile.services.importing import ImportedEvent, read_events, recorded_session
from spile.testkit.scenarios import MockEventGenerator
from spile.topics import MAX_PAYLOAD_BYTES
from spile.topics.encodings import EventSerializer, SerializationFormat, avro_schema
from spile.topics.events import ObservabilityEvent, PostToolUseEvent
from spile.topics.payloads._codec import EventCodec

RESULTS = Path(__file__).parent / "results" / "encodings.json"
TYPICAL_BYTES = 627
LIMIT_US = 10.0
BATCH = 100


class Contestant(NamedTuple):
    """One way to write and read an event."""

    encode: Callable[[], bytes]
    decode: Callable[[bytes], object]
    validates: bool = False


def main(arguments: list[str]) -> int:
    """Measure, print the tables, write the results; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(prog="bench encodings", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=300, help="calls per measurement")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    report = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": given.rounds,
        "times": {
            name: _times(event, given.rounds, max(3, given.number // factor))
            for name, event, factor in (
                ("typical", typical_event(), 1),
                ("with embedding", typical_event(embedding=True), 10),
            )
        },
        "sizes": {name: _sizes(events) for name, events in _corpora().items()},
        "batch": _batches(),
    }
    report["floors"] = _floors(report)
    _print(report)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(floor["reached"] for floor in report["floors"]) else 1


def typical_event(*, embedding: bool = False) -> PostToolUseEvent:
    """Return a tool call of 627 bytes of JSON, or the same with an embedding."""
    rng = random.Random(7)
    ids = [UUID(int=rng.getrandbits(128), version=4) for _ in range(5)]
    fields = {
        "event_id": ids[0],
        "timestamp": datetime(2026, 5, 4, 10, 11, 12, 345678, tzinfo=UTC),
        "workflow_id": ids[1],
        "agent_id": ids[2],
        "session_id": ids[3],
        "performance_metrics": {"execution_time_ms": 12.5, "memory_usage_mb": 48.25},
        "metadata": {"correlation_id": ids[4], "source_service": "coder"},
        "tool_name": "Read",
        "success": True,
        "execution_time_ms": 12.5,
        "result": {"path": "src/shop/cart.py", "lines": 212, "text": ""},
    }
    if embedding:
        fields["semantic_embedding"] = [rng.gauss(0, 0.1) for _ in range(1536)]
    short = len(PostToolUseEvent.model_validate(fields).model_dump_json())
    fields["result"]["text"] = "x" * max(0, TYPICAL_BYTES - short)
    return PostToolUseEvent.model_validate(fields)


def _contestants(event: PostToolUseEvent) -> dict[str, Contestant]:
    import fastavro
    import orjson
    import ormsgpack

    plain = event.model_dump(mode="json")
    codec = EventCodec(type(event))
    struct = msgspec.convert(plain, codec.struct)
    from_json = msgspec.json.Decoder(codec.struct).decode
    from_pack = msgspec.msgpack.Decoder(codec.struct).decode
    avro = EventSerializer(SerializationFormat.AVRO, max_payload_size=MAX_PAYLOAD_BYTES)
    schema = fastavro.parse_schema(avro_schema(type(event)))
    typed = {**event.model_dump(), "payload": {**event.payload, "result": json.dumps(event.result)}}
    made = {
        f"spile {serializer.format}": Contestant(
            lambda s=serializer: s.serialize(event)[0], serializer.deserialize, validates=True
        )
        for serializer in (*_serializers(), avro)
    }
    return {
        **made,
        "pydantic JSON": Contestant(
            lambda: type(event).__pydantic_serializer__.to_json(event),
            PostToolUseEvent.parse,
            validates=True,
        ),
        "msgspec JSON": Contestant(lambda: msgspec.json.encode(struct), from_json, validates=True),
        "msgspec MessagePack": Contestant(
            lambda: msgspec.msgpack.encode(struct), from_pack, validates=True
        ),
        "orjson": Contestant(lambda: orjson.dumps(plain), orjson.loads),
        "ormsgpack": Contestant(lambda: ormsgpack.packb(plain), ormsgpack.unpackb),
        "fastavro": Contestant(
            lambda: _fastavro_write(fastavro, schema, typed),
            lambda data: fastavro.schemaless_reader(io.BytesIO(data), schema),
        ),
    }


def _serializers() -> list[EventSerializer]:
    return [
        EventSerializer(form, max_payload_size=MAX_PAYLOAD_BYTES)
        for form in (
            SerializationFormat.JSON,
            SerializationFormat.MSGPACK,
            SerializationFormat.MSGPACK_ZSTD,
        )
    ]


def _fastavro_write(fastavro, schema, value) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def _times(event: PostToolUseEvent, rounds: int, number: int) -> dict:
    contestants = _contestants(event)
    found = {name: ([], []) for name in contestants}
    data = {name: contestant.encode() for name, contestant in contestants.items()}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            found[name][0].append(_best(contestant.encode, number))
            found[name][1].append(_best(lambda c=contestant, d=data[name]: c.decode(d), number))
    return {
        name: {
            "encode_us": round(statistics.median(found[name][0]), 2),
            "decode_us": round(statistics.median(found[name][1]), 2),
            "bytes": len(data[name]),
            "validates": contestant.validates,
        }
        for name, contestant in contestants.items()
    }


def _best(call: Callable[[], object], number: int) -> float:
    """Return the CPU microseconds of one call, the best of ten runs."""
    best = float("inf")
    for _ in range(10):
        before = time.process_time_ns()
        for _ in range(number):
            call()
        best = min(best, time.process_time_ns() - before)
    return best / number / 1000


def _corpora() -> dict[str, list[ObservabilityEvent]]:
    made = MockEventGenerator(seed=77).generate_traffic()
    recorded = [
        imported.event
        for imported in read_events(recorded_session())
        if isinstance(imported, ImportedEvent) and isinstance(imported.event, BaseModel)
    ]
    return {
        "made-up traffic": [item.event for item in islice(made, 5000)],
        "recorded session": recorded,
    }


def _sizes(events: list[ObservabilityEvent]) -> dict:
    plain = EventSerializer(SerializationFormat.JSON, max_payload_size=MAX_PAYLOAD_BYTES)
    total = sum(len(plain.serialize(event)[0]) for event in events)
    found = {"events": len(events), "json_bytes_per_event": round(total / len(events))}
    for form in (SerializationFormat.MSGPACK, SerializationFormat.AVRO):
        for compressed in (False, True):
            serializer = EventSerializer(form, compressed, MAX_PAYLOAD_BYTES)
            single = sum(len(serializer.serialize(event)[0]) for event in events)
            batches = (events[start : start + BATCH] for start in range(0, len(events), BATCH))
            many = sum(len(serializer.serialize_batch(batch)[0]) for batch in batches)
            name = form.value + ("+zstd" if compressed else "")
            found[name] = {
                "one_by_one": round(total / single, 2),
                f"batches_of_{BATCH}": round(total / many, 2),
            }
    return found


def _batches() -> dict:
    """Measure the floors of seed 000: events a second in batches, p95 of one event, memory."""
    events = [made.event for made in islice(MockEventGenerator(seed=5).generate_traffic(), 2000)]
    serializer = EventSerializer(SerializationFormat.MSGPACK_ZSTD)
    took = []
    for event in events:
        before = time.perf_counter_ns()
        serializer.deserialize(serializer.serialize(event)[0])
        took.append(time.perf_counter_ns() - before)
    before = time.perf_counter()
    assert serializer.deserialize_batch(serializer.serialize_batch(events)[0]) == events
    rate = len(events) / (time.perf_counter() - before)
    return {
        "events_per_s": round(rate),
        "p95_ms_there_and_back": round(statistics.quantiles(took, n=20)[18] / 1e6, 3),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _floors(report: dict) -> list[dict]:
    stream = report["times"]["typical"]["spile msgpack"]
    checks = [
        ("typical event to MessagePack, us", stream["encode_us"], "<=", LIMIT_US),
        ("typical event from MessagePack, us", stream["decode_us"], "<=", LIMIT_US),
        ("batch there and back, events/s", report["batch"]["events_per_s"], ">=", 200),
        ("p95 there and back, ms", report["batch"]["p95_ms_there_and_back"], "<=", 10),
    ]
    for name, sizes in report["sizes"].items():
        ratio = sizes["msgpack+zstd"]
        checks.append((f"{name}: JSON to stored, batches", ratio[f"batches_of_{BATCH}"], ">=", 4))
    return [
        {
            "floor": name,
            "value": value,
            "limit": f"{sign} {limit:g}",
            "reached": value <= limit if sign == "<=" else value >= limit,
        }
        for name, value, sign, limit in checks
    ]


def _print(report: dict) -> None:
    console = Console(width=None if sys.stdout.isatty() else 118)
    for title, cases in report["times"].items():
        table = Table(title=f"{title} event, {report['rounds']} rounds, medians")
        for column in ("case", "encode us", "decode us", "bytes", "validates"):
            table.add_column(column, justify="left" if column == "case" else "right")
        for name, case in cases.items():
            times = (f"{case['encode_us']:.1f}", f"{case['decode_us']:.1f}")
            mark = "yes" if case["validates"] else ""
            table.add_row(name, *times, f"{case['bytes']:,}", mark)
        console.print(table)
    for name, sizes in report["sizes"].items():
        console.print(f"{name}: how many times smaller than JSON: {sizes}")
    console.print(f"batches: {report['batch']}")
    for floor in report["floors"]:
        mark = "reached" if floor["reached"] else "MISSED"
        console.print(f"{floor['floor']}: {floor['value']} ({floor['limit']}): {mark}")

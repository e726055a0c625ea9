"""
Requests and answers over the bare client, as its users write them.

Both sides keep the promises that spile's keep: one timeout for each request, no future left behind,
the seven headers, ids of their own, answers acknowledged before their requests are committed.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import BaseModel

from bench.events import ENVIRONMENT
from spile.adapters.delivery import OutgoingEvent
from spile.adapters.publishing import EventEncoder
from spile.topics import default_catalogue
from spile.topics.events.requests import CodeAnalysisCompleted, CodeAnalysisRequested

STEM = f"{ENVIRONMENT}.archon-intelligence.intelligence.code-analysis"
ASKED, COMPLETED, FAILED = (f"{STEM}-{step}.v1" for step in ("requested", "completed", "failed"))
COMMIT_EVERY_S = 0.5
TIMEOUT_S = 5
QUESTION = CodeAnalysisRequested(
    operation_type="PATTERN_EXTRACTION", source_path="/src/handlers", language="python"
)
ANSWER = CodeAnalysisCompleted.model_validate(
    {
        "patterns": [{"name": "Node State Management", "confidence": 0.95}],
        "query_time_ms": 450,
        "total_count": 120,
    }
)

Ask = Callable[[], Awaitable[None]]
Wire = tuple[bytes, list[tuple[str, bytes]]]


class Form(Protocol):
    """What one side does with the bytes of the other."""

    def ask(self, name: str) -> Wire:
        """Return value and headers of a request with this correlation id."""
        ...

    def answer(self, value: bytes) -> Wire:
        """Return value and headers of the answer to a request."""
        ...

    def read(self, value: bytes) -> None:
        """Read an answer."""
        ...


class Untouched:
    """Ready bytes, looked at by nobody: what the transport alone takes."""

    def __init__(self) -> None:
        encoder = EventEncoder(default_catalogue(), environment=ENVIRONMENT, service="bench")
        made = [("CODE_ANALYSIS_REQUESTED", QUESTION), ("CODE_ANALYSIS_COMPLETED", ANSWER)]
        self.question, self.told = (
            encoder.encode(OutgoingEvent(event_type=t, payload=p)).record for t, p in made
        )

    def ask(self, _name: str) -> Wire:
        """Return the same as ever."""
        return self.question.value, self.question.headers

    def answer(self, _value: bytes) -> Wire:
        """Return the same as ever."""
        return self.told.value, self.told.headers

    def read(self, _value: bytes) -> None:
        """Leave it."""


class Orjson:
    """Dictionaries and the quickest JSON there is; nothing is validated."""

    def __init__(self) -> None:
        self._question = QUESTION.model_dump(mode="json", exclude_none=True)
        self._answer = ANSWER.model_dump(mode="json", exclude_none=True)

    def ask(self, name: str) -> Wire:
        """Return value and headers of a request with this correlation id."""
        return self._write("CODE_ANALYSIS_REQUESTED", self._question, name)

    def answer(self, value: bytes) -> Wire:
        """Return value and headers of the answer to a request."""
        asked = orjson.loads(value)
        assert asked["payload"]["operation_type"] == "PATTERN_EXTRACTION"
        name, cause = asked["correlation_id"], asked["event_id"]
        return self._write("CODE_ANALYSIS_COMPLETED", self._answer, name, cause)

    def read(self, value: bytes) -> None:
        """Read an answer."""
        assert orjson.loads(value)["payload"]["total_count"] == 120

    @staticmethod
    def _write(event_type: str, payload: dict, name: str, cause: str | None = None) -> Wire:
        event = {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "correlation_id": name,
            "causation_id": cause,
            "timestamp": datetime.now(UTC).isoformat(),
            "version": "v1",
            "service": "bench",
            "payload": {**payload, "correlation_id": name},
        }
        return orjson.dumps(event), _headers(
            event_type, name, event["event_id"], event["timestamp"]
        )


class _Envelope(BaseModel):
    """The envelope of the contracts, as a pydantic model."""

    event_id: uuid.UUID
    event_type: str
    correlation_id: uuid.UUID
    causation_id: uuid.UUID | None = None
    timestamp: datetime
    service: str
    payload: CodeAnalysisRequested | CodeAnalysisCompleted
    version: str = "v1"


class Pydantic:
    """The same with typed models, validated on both sides."""

    def ask(self, name: str) -> Wire:
        """Return value and headers of a request with this correlation id."""
        payload = QUESTION.model_copy(update={"correlation_id": uuid.UUID(name)})
        return self._write("CODE_ANALYSIS_REQUESTED", payload, name)

    def answer(self, value: bytes) -> Wire:
        """Return value and headers of the answer to a request."""
        asked = _Envelope.model_validate_json(value)
        payload = ANSWER.model_copy(update={"correlation_id": asked.correlation_id})
        name = str(asked.correlation_id)
        return self._write("CODE_ANALYSIS_COMPLETED", payload, name, asked.event_id)

    def read(self, value: bytes) -> None:
        """Read an answer."""
        assert _Envelope.model_validate_json(value).payload.total_count == 120

    @staticmethod
    def _write(
        event_type: str, payload: BaseModel, name: str, cause: uuid.UUID | None = None
    ) -> Wire:
        event = _Envelope(
            event_id=uuid.uuid4(),
            event_type=event_type,
            correlation_id=uuid.UUID(name),
            causation_id=cause,
            timestamp=datetime.now(UTC),
            service="bench",
            payload=payload,
        )
        return event.model_dump_json().encode(), _headers(
            event_type, name, str(event.event_id), event.timestamp.isoformat()
        )


def _headers(event_type: str, name: str, event_id: str, moment: str) -> list[tuple[str, bytes]]:
    return [
        ("content_type", b"application/json"),
        ("correlation_id", name.encode()),
        ("message_id", event_id.encode()),
        ("timestamp", moment.encode()),
        ("source", b"bench"),
        ("event_type", event_type.encode()),
        ("schema_version", b"1.0.0"),
    ]


@contextlib.asynccontextmanager
async def asks(bootstrap: str, form: Form) -> AsyncIterator[Ask]:
    """Futures by correlation id, one loop that reads all answers."""
    waiting: dict[bytes, asyncio.Future] = {}
    producer = AIOKafkaProducer(**_producer_options(bootstrap))
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await producer.start()
    await consumer.start()
    places = [
        TopicPartition(topic, number)
        for topic in (COMPLETED, FAILED)
        for number in sorted(await producer.partitions_for(topic))
    ]
    consumer.assign(places)
    await consumer.seek_to_end(*places)

    async def receive() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    future = waiting.get(record.key)
                    if future is not None and not future.done():
                        future.set_result(record.value)

    async def ask() -> None:
        name = str(uuid.uuid4())
        key = name.encode()
        future = waiting[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                value, headers = form.ask(name)
                await producer.send_and_wait(ASKED, value, key, headers=headers)
                form.read(await future)
        finally:
            del waiting[key]

    async with _running(receive):
        yield ask
    await producer.stop()
    await consumer.stop()


@contextlib.asynccontextmanager
async def answers(bootstrap: str, form: Form, group: str) -> AsyncIterator[None]:
    """A task for each answer; twice a second what is answered is committed."""
    await begin_at_end(bootstrap, group)
    producer = AIOKafkaProducer(**_producer_options(bootstrap))
    consumer = AIOKafkaConsumer(
        ASKED, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    await producer.start()
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)
    sends: set[asyncio.Task] = set()
    reached: dict[TopicPartition, int] = {}

    async def respond() -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                for place, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        value, headers = form.answer(record.value)
                        send = tasks.create_task(
                            producer.send_and_wait(COMPLETED, value, record.key, headers=headers)
                        )
                        sends.add(send)
                        send.add_done_callback(sends.discard)
                    reached[place] = records[-1].offset + 1

    async def commit() -> None:
        committed: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            offsets = {place: at for place, at in reached.items() if committed.get(place) != at}
            if offsets:
                if sends:
                    await asyncio.wait(set(sends))
                await consumer.commit(offsets)
                committed |= offsets

    async with _running(respond, commit):
        yield
    await producer.stop()
    await consumer.stop()


async def begin_at_end(bootstrap: str, group: str) -> None:
    """Let a new group skip what the contestants before it asked."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    places = [TopicPartition(ASKED, number) for number in await producer.partitions_for(ASKED)]
    await producer.stop()
    await consumer.start()
    consumer.assign(places)
    await consumer.commit(await consumer.end_offsets(places))
    await consumer.stop()


def _producer_options(bootstrap: str) -> dict:
    return {
        "bootstrap_servers": bootstrap,
        "acks": "all",
        "enable_idempotence": True,
        "max_batch_size": 131_072,
    }


@contextlib.asynccontextmanager
async def _running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop()) for loop in loops]
        yield
        for task in tasks:
            task.cancel()

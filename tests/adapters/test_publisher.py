"""The publisher over a transport in memory, whose faults are chosen."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import OutgoingEvent
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import BreakerState, CircuitBreaker, EventPublisher
from spile.adapters.subscribing import EventReader
from spile.spi import (
    BrokerUnavailableError,
    CircuitOpenError,
    ClosedError,
    ConfigurationError,
    DeliveryTimeoutError,
    InvalidEventError,
    MessageTooLargeError,
    ProtocolBatchPublisher,
    ProtocolEventPublisher,
    RejectedError,
    UnauthorisedError,
    UnknownTopicError,
)
from spile.topics import TopicSpec, default_catalogue
from spile.topics.events import EventMetadata, PreToolUseEvent

TOOL_TOPIC = "dev.shop.tool.recorded.v1"
ORDER_TOPIC = "dev.shop.orders.order-placed.v1"


class OrderPlaced(BaseModel):
    order_id: str
    total: float


@pytest.fixture
def catalogue():
    return default_catalogue(services=("shop",)).with_topics(
        TopicSpec(
            name="shop.orders.order-placed.v1",
            owner="shop",
            key="order_id",
            models={"ORDER_PLACED": OrderPlaced},
        )
    )


@pytest.fixture
def cluster(catalogue):
    return MemoryCluster.of_catalogue(catalogue, "dev")


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def publisher(cluster, catalogue, clock):
    sender = cluster.sender()
    return EventPublisher(
        sender,
        catalogue,
        environment="dev",
        service="shop",
        breaker=CircuitBreaker(clock=lambda: clock[0]),
        refused=DeadLetterQueue(sender, group="publisher.shop"),
    )


def tool_use(**more):
    return PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"path": "/a"}, **more)


def test_it_is_what_the_contracts_ask_for(publisher):
    """The names are there; the conformance suite says whether they mean it."""
    assert isinstance(publisher, ProtocolEventPublisher)
    assert isinstance(publisher, ProtocolBatchPublisher)


async def test_an_event_is_complete_on_the_wire(publisher, cluster):
    """Envelope, key and all seven headers agree with each other and with the event."""
    session = uuid4()
    event = tool_use(session_id=session)
    cause = str(uuid4())
    assert await publisher.publish("PRE_TOOL_USE", event, causation_id=cause) is True
    (record,) = cluster.history
    assert record.topic == TOOL_TOPIC
    assert record.key == str(session).encode()
    headers = dict(record.headers)
    envelope = json.loads(record.value)
    assert headers["content_type"] == b"application/json"
    assert headers["message_id"].decode() == envelope["event_id"] == str(event.event_id)
    assert headers["correlation_id"].decode() == envelope["correlation_id"]
    assert headers["event_type"].decode() == envelope["event_type"] == "PRE_TOOL_USE"
    assert headers["timestamp"].decode() == envelope["timestamp"]
    assert headers["source"].decode() == envelope["service"] == "shop"
    assert headers["schema_version"] == b"1.1.0"
    assert envelope["causation_id"] == cause
    assert envelope["payload"]["payload"]["tool_name"] == "Read"


async def test_what_is_published_can_be_read(publisher, cluster, catalogue):
    """A reader gives back an equal model."""
    event = tool_use()
    await publisher.publish("PRE_TOOL_USE", event)
    received = EventReader(catalogue).read(cluster.history[0])
    assert received.payload == event
    assert received.event_id == event.event_id
    assert received.data.payload.tool_name == "Read"


async def test_an_event_of_ones_own_goes_to_its_topic(publisher, cluster):
    """A mapping is checked against the model; the key is the field that the catalogue names."""
    assert await publisher.publish("ORDER_PLACED", {"order_id": "o-1", "total": 9.5})
    assert cluster.history[0].topic == ORDER_TOPIC
    assert cluster.history[0].key == b"o-1"


@pytest.mark.parametrize("name", ["shop.orders.order-placed.v1", ORDER_TOPIC])
async def test_a_topic_name_is_an_event_type_too(publisher, cluster, name):
    """With or without its environment; the envelope's type is the catalogue's."""
    await publisher.publish(name, OrderPlaced(order_id="o-1", total=1))
    assert json.loads(cluster.history[0].value)["event_type"] == "ORDER_PLACED"


async def test_metadata_reaches_envelope_and_tracers(publisher, cluster):
    """Trace ids become headers, the W3C one included."""
    trace = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    await publisher.publish("PRE_TOOL_USE", tool_use(), metadata={**trace, "team": "search"})
    headers = dict(cluster.history[0].headers)
    assert headers["trace_id"].decode() == trace["trace_id"]
    assert headers["traceparent"].startswith(b"00-4bf92f")
    assert json.loads(cluster.history[0].value)["metadata"]["team"] == "search"


async def test_an_events_own_trace_reaches_tracers(publisher, cluster):
    """What stands in its metadata is lent to the headers, unless the caller names another."""
    ids = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    event = tool_use().model_copy(update={"metadata": EventMetadata(**ids)})
    await publisher.publish("PRE_TOOL_USE", event)
    await publisher.publish("PRE_TOOL_USE", event, metadata={"trace_id": "f" * 32})
    odd = EventMetadata(trace_id="zzz", span_id="zzz")
    await publisher.publish("PRE_TOOL_USE", event.model_copy(update={"metadata": odd}))
    own, given, none = (dict(record.headers) for record in cluster.history)
    assert own["trace_id"].decode() == ids["trace_id"]
    assert own["traceparent"].decode() == f"00-{ids['trace_id']}-{ids['span_id']}-01"
    assert (given["trace_id"], "span_id" in given) == (b"f" * 32, False)
    assert not {"trace_id", "span_id", "traceparent"} & set(none)


@pytest.mark.parametrize(
    ("event_type", "payload", "options", "error", "says"),
    [
        ("PRE_TOOL_USE", {"agent_id": str(uuid4())}, {}, InvalidEventError, "tool_name"),
        ("ORDER_PLACED", {"order_id": 5, "total": 1.0}, {}, InvalidEventError, "order_id"),
        ("ORDER_PLACED", {"order_id": "a", "total": float("nan")}, {}, InvalidEventError, "total"),
        ("ORDER_PLACED", [1], {}, InvalidEventError, "ORDER_PLACED"),
        ("ORDER_SHIPPED", {}, {}, UnknownTopicError, "ORDER_SHIPPED"),
        ("dev.shop.orders.unknown.v1", {}, {}, UnknownTopicError, "unknown"),
        ("TOOL_TYPO", {}, {}, UnknownTopicError, "TOOL_TYPO"),
    ],
)
async def test_what_breaks_its_contract_is_refused(
    publisher, cluster, event_type, payload, options, error, says
):
    """The error names what was wrong, nothing is sent, and the breaker does not mind."""
    for _ in range(6):
        with pytest.raises(error, match=says):
            await publisher.publish(event_type, payload, **options)
    assert not cluster.history
    metrics = await publisher.get_metrics()
    assert metrics["circuit_breaker_status"] == "closed"
    assert metrics["events_refused"] == 6


@pytest.mark.parametrize("field", ["correlation_id", "causation_id"])
async def test_a_foreign_id_is_refused_with_the_way_out(publisher, field):
    """The error names the function that maps foreign ids."""
    with pytest.raises(InvalidEventError, match="correlation_uuid"):
        await publisher.publish("ORDER_PLACED", {"order_id": "a", "total": 1}, **{field: "abc-123"})


async def test_wrong_metadata_is_refused(publisher):
    """Metadata holds context values, not objects."""
    with pytest.raises(InvalidEventError, match="metadata"):
        await publisher.publish("PRE_TOOL_USE", tool_use(), metadata={"a": {"b": [1]}})


async def test_a_payload_over_a_million_bytes_is_refused(publisher, cluster):
    """The error has size, limit and type."""
    with pytest.raises(MessageTooLargeError, match="limit 1000000") as caught:
        await publisher.publish("ORDER_PLACED", {"order_id": "a" * 1_000_000, "total": 1})
    assert caught.value.limit_bytes == 1_000_000
    assert caught.value.size_bytes > 1_000_000
    assert caught.value.event_type == "ORDER_PLACED"
    assert not cluster.history


async def test_many_are_all_or_nothing_at_validation(publisher, cluster):
    """The error names the index, and nothing was sent."""
    events = [OutgoingEvent(event_type="PRE_TOOL_USE", payload=tool_use()) for _ in range(5)]
    events[3] = OutgoingEvent(event_type="PRE_TOOL_USE", payload={"agent_id": "nobody"})
    with pytest.raises(InvalidEventError) as caught:
        await publisher.publish_many(events)
    assert caught.value.index == 3
    assert not cluster.history


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("metadata.trace_id", {"metadata": {"trace_id": "a\ud800"}}),
        ("metadata.note", {"metadata": {"a": "b", "note": ["a", "\udfff"]}}),
        ("metadata.\\ud800", {"metadata": {"\ud800": "a"}}),
        ("partition_key", {"partition_key": "a\udc80"}),
    ],
)
async def test_text_that_is_no_unicode_is_refused(publisher, cluster, field, facts):
    """The error names the field and, of many events, which; nothing was sent."""
    good = OutgoingEvent(event_type="PRE_TOOL_USE", payload=tool_use())
    bad = OutgoingEvent(event_type="PRE_TOOL_USE", payload=tool_use(), **facts)
    with pytest.raises(InvalidEventError, match="PRE_TOOL_USE") as caught:
        await publisher.publish_event(bad)
    assert caught.value.field == field
    with pytest.raises(InvalidEventError) as caught:
        await publisher.publish_many([good, good, bad])
    assert caught.value.index == 2
    assert not cluster.history
    str(caught.value).encode()


async def test_a_service_that_is_no_unicode_is_refused_at_once(cluster, catalogue):
    """No publisher is made."""
    with pytest.raises(ConfigurationError, match="service"):
        EventPublisher(cluster.sender(), catalogue, environment="dev", service="shop\ud800")


async def test_many_keep_their_order(publisher, cluster):
    """Events of one key stand in the log as they were given."""
    session = uuid4()
    events = [tool_use(session_id=session) for _ in range(500)]
    sent = await publisher.publish_many(
        [OutgoingEvent(event_type="PRE_TOOL_USE", payload=event) for event in events]
    )
    assert sent == [True] * 500
    ids = [UUID(dict(r.headers)["message_id"].decode()) for r in cluster.history]
    assert ids == [event.event_id for event in events]


async def test_concurrent_publishes_become_few_sends(publisher, cluster):
    """A thousand tasks in one turn of the loop are one send, in the order they were started."""
    sends = []

    async def watch(operation, what):
        if operation == "send":
            sends.append(len(what))

    cluster.faults.hook = watch
    session = uuid4()
    events = [tool_use(session_id=session) for _ in range(1000)]
    results = await asyncio.gather(*(publisher.publish("PRE_TOOL_USE", e) for e in events))
    assert results == [True] * 1000
    assert sends == [1000]
    ids = [UUID(dict(r.headers)["message_id"].decode()) for r in cluster.history]
    assert ids == [event.event_id for event in events]


def soon(publisher, payloads):
    """Hand events in, and return futures of their fates."""
    loop = asyncio.get_running_loop()
    fates = [loop.create_future() for _ in payloads]
    for payload, fate in zip(payloads, fates, strict=True):
        event = OutgoingEvent(event_type="PRE_TOOL_USE", payload=payload)
        publisher.publish_soon(event, fate.set_result)
    assert not any(fate.done() for fate in fates)
    return fates


async def test_what_is_handed_in_in_one_turn_is_one_send(publisher, cluster):
    """One that is wrong is told so and takes nobody along; a secret among them is replaced."""
    sends = []

    async def watch(operation, what):
        if operation == "send":
            sends.append(len(what))

    cluster.faults.hook = watch
    secret = "AKIA" + "IOSFODNN7EXAMPLE"
    commands = ["a", secret, *(str(number) for number in range(60))]
    events = [
        PreToolUseEvent(agent_id=uuid4(), tool_name="Bash", parameters={"command": command})
        for command in commands
    ]
    *fates, wrong = await asyncio.gather(*soon(publisher, [*events, {"tool_name": "Read"}]))
    assert fates == [True] * 62
    assert isinstance(wrong, InvalidEventError)
    assert sends == [62]
    assert all(secret.encode() not in record.value for record in cluster.history)
    metrics = await publisher.get_metrics()
    assert (metrics["events_published"], metrics["events_refused"]) == (62, 1)


async def test_handed_in_events_fail_one_by_one(publisher, cluster):
    """Each counts as a publish of its own: five open the breaker, the next is told so."""
    failing(cluster, DeliveryTimeoutError("no answer"))
    fates = await asyncio.gather(*soon(publisher, [tool_use() for _ in range(5)]))
    assert fates == [False] * 5
    (fate,) = await asyncio.gather(*soon(publisher, [tool_use()]))
    assert isinstance(fate, CircuitOpenError)


async def test_closing_sends_what_was_handed_in(publisher):
    """What was handed in just before the close is acknowledged, what comes later is refused."""
    (fate,) = soon(publisher, [tool_use()])
    await publisher.close()
    assert fate.result() is True
    with pytest.raises(ClosedError):
        soon(publisher, [tool_use()])


async def test_an_event_keeps_the_id_and_time_it_brings(publisher, cluster):
    """Publishing again under the same id is how a caller retries."""
    event_id = str(uuid4())
    moment = datetime(2025, 5, 6, tzinfo=UTC)
    event = OutgoingEvent(
        event_type="ORDER_PLACED",
        payload={"order_id": "a", "total": 1},
        event_id=event_id,
        timestamp=moment,
    )
    assert await publisher.publish_event(event)
    envelope = json.loads(cluster.history[0].value)
    assert envelope["event_id"] == event_id
    assert datetime.fromisoformat(envelope["timestamp"]) == moment


async def test_two_ids_for_one_event_are_refused(publisher):
    """The payload's own id and the given one must agree."""
    event = OutgoingEvent(event_type="PRE_TOOL_USE", payload=tool_use(), event_id=str(uuid4()))
    with pytest.raises(InvalidEventError, match="one event has one id"):
        await publisher.publish_event(event)


def failing(cluster, error):
    async def hook(operation, _what):
        if operation == "send":
            raise error

    cluster.faults.hook = hook


async def test_a_timeout_is_false_and_never_a_dead_letter(publisher, cluster):
    """Nobody knows whether it is written, so it stays in the caller's hands."""
    failing(cluster, DeliveryTimeoutError("no answer"))
    assert await publisher.publish("PRE_TOOL_USE", tool_use()) is False
    metrics = await publisher.get_metrics()
    assert metrics["events_failed"] == 1
    assert metrics["events_sent_to_dlq"] == 0
    assert not cluster.history


async def test_a_refusal_by_the_broker_becomes_a_dead_letter(publisher, cluster):
    """Byte for byte, with the reason; the breaker does not count it."""

    async def hook(operation, records):
        if operation == "send" and not records[0].topic.endswith(".dlq"):
            raise RejectedError("too odd", code="INVALID_RECORD")

    cluster.faults.hook = hook
    for _ in range(6):
        assert await publisher.publish("PRE_TOOL_USE", tool_use()) is False
    dead = cluster.history
    assert [record.topic for record in dead] == [TOOL_TOPIC + ".dlq"] * 6
    headers = dict(dead[0].headers)
    assert headers["x-spile-dlq-error-type"] == b"RejectedError"
    assert headers["x-spile-dlq-original-topic"].decode() == TOOL_TOPIC
    assert json.loads(dead[0].value)["event_id"] == headers["message_id"].decode()
    metrics = await publisher.get_metrics()
    assert metrics["events_sent_to_dlq"] == 6
    assert metrics["circuit_breaker_status"] == "closed"


async def test_five_failures_open_the_breaker_and_one_probe_closes_it(publisher, cluster, clock):
    """Open: nothing is sent. After the reset time: exactly one probe, whose success closes it."""
    failing(cluster, BrokerUnavailableError("gone"))
    for _ in range(5):
        assert await publisher.publish("PRE_TOOL_USE", tool_use()) is False
    cluster.faults.hook = None
    with pytest.raises(RuntimeError, match="nothing was sent"):
        await publisher.publish("PRE_TOOL_USE", tool_use())
    assert not cluster.history
    clock[0] += 30
    results = await asyncio.gather(
        *(publisher.publish("PRE_TOOL_USE", tool_use()) for _ in range(10)),
        return_exceptions=True,
    )
    assert results.count(True) == 1
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 9
    metrics = await publisher.get_metrics()
    assert metrics["circuit_breaker_status"] == BreakerState.CLOSED
    assert metrics["circuit_breaker_opens"] == 1


async def test_an_invalid_event_does_not_use_up_the_probe(publisher, cluster, clock):
    """Validation comes before the breaker is asked."""
    failing(cluster, BrokerUnavailableError("gone"))
    for _ in range(5):
        await publisher.publish("PRE_TOOL_USE", tool_use())
    cluster.faults.hook = None
    clock[0] += 30
    with pytest.raises(InvalidEventError):
        await publisher.publish("ORDER_PLACED", {})
    assert await publisher.publish("PRE_TOOL_USE", tool_use())


async def test_many_failed_events_count_once_for_the_breaker(publisher, cluster):
    """It counts publishes, not events."""
    failing(cluster, BrokerUnavailableError("gone"))
    events = [OutgoingEvent(event_type="PRE_TOOL_USE", payload=tool_use()) for _ in range(50)]
    assert await publisher.publish_many(events) == [False] * 50
    metrics = await publisher.get_metrics()
    assert metrics["circuit_breaker_status"] == "closed"
    assert metrics["events_failed"] == 50


async def test_a_cancelled_probe_frees_its_place(publisher, cluster, clock):
    """A caller that goes away does not block the breaker."""
    failing(cluster, BrokerUnavailableError("gone"))
    for _ in range(5):
        await publisher.publish("PRE_TOOL_USE", tool_use())
    stuck = asyncio.Event()

    async def hang(operation, _what):
        if operation == "send":
            stuck.set()
            await asyncio.Event().wait()

    cluster.faults.hook = hang
    clock[0] += 30
    async with asyncio.TaskGroup() as group:
        task = group.create_task(publisher.publish("PRE_TOOL_USE", tool_use()))
        await stuck.wait()
        task.cancel()
    cluster.faults.hook = None
    assert await publisher.publish("PRE_TOOL_USE", tool_use())


async def test_closing_flushes_and_then_refuses(publisher, cluster):
    """What was begun is finished, what comes later is refused; closing twice is one close."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(publisher.publish("PRE_TOOL_USE", tool_use())) for _ in "abc"]
        await asyncio.sleep(0)
        await publisher.close()
    assert [task.result() for task in tasks] == [True] * 3
    assert len(cluster.history) == 3
    await publisher.close()
    with pytest.raises(ClosedError, match="nothing was sent"):
        await publisher.publish("PRE_TOOL_USE", tool_use())


async def test_one_missing_topic_does_not_take_others_along(cluster, catalogue):
    """Concurrent publishes share a send, but not a refusal."""
    wider = catalogue.with_topics(
        TopicSpec(name="shop.orders.not-made.v1", owner="shop", models={"NOT_MADE": None})
    )
    publisher = EventPublisher(cluster.sender(), wider, environment="dev", service="shop")
    results = await asyncio.gather(
        publisher.publish("PRE_TOOL_USE", tool_use()),
        publisher.publish("NOT_MADE", {}),
        publisher.publish("PRE_TOOL_USE", tool_use()),
        return_exceptions=True,
    )
    assert results[0] is results[2] is True
    assert isinstance(results[1], UnknownTopicError)


async def test_a_refusal_between_does_not_let_later_publishes_overtake(cluster, catalogue):
    """Turns of the loop that share a key keep their order, whatever is refused in one of them."""
    wider = catalogue.with_topics(
        TopicSpec(name="shop.orders.not-made.v1", owner="shop", models={"NOT_MADE": None})
    )
    publisher = EventPublisher(cluster.sender(), wider, environment="dev", service="shop")
    session = uuid4()
    events = [tool_use(session_id=session) for _ in range(6)]
    calls = [asyncio.ensure_future(publisher.publish("PRE_TOOL_USE", e)) for e in events[:3]]
    missing = asyncio.ensure_future(publisher.publish("NOT_MADE", {}))
    await asyncio.sleep(0)
    calls += [asyncio.ensure_future(publisher.publish("PRE_TOOL_USE", e)) for e in events[3:]]
    assert await asyncio.gather(*calls) == [True] * 6
    with pytest.raises(UnknownTopicError):
        await missing
    ids = [UUID(dict(r.headers)["message_id"].decode()) for r in cluster.history]
    assert ids == [event.event_id for event in events]


async def test_refused_credentials_are_no_dead_letter(publisher, cluster):
    """Only what was refused itself goes to the queue; the credentials are no property of it."""
    failing(cluster, UnauthorisedError("who are you"))
    assert await publisher.publish("PRE_TOOL_USE", tool_use()) is False
    metrics = await publisher.get_metrics()
    assert metrics["events_sent_to_dlq"] == 0
    assert metrics["circuit_breaker_status"] == "closed"

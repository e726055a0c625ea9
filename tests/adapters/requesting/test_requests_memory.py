"""Requests and answers on the bus in memory."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID, uuid4, uuid5

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import OutgoingEvent, OutgoingRecord
from spile.adapters.memory import MemoryCluster
from spile.adapters.requesting import AGENT_ROUTING, CODE_ANALYSIS, RequestClient
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    DeliveryTimeoutError,
    InvalidEventError,
    RequestFailedError,
    TooManyRequestsError,
    UnauthorisedError,
    UndecodableError,
    UnknownTopicError,
)
from spile.topics import TICK, decode_envelope
from spile.topics.events.requests import (
    AgentRecommendation,
    AgentRoutingCompleted,
    AgentRoutingRequested,
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisRequested,
    CodePattern,
)

STEM = "dev.archon-intelligence.intelligence.code-analysis"
ASKED, COMPLETED, FAILED = (f"{STEM}-{step}.v1" for step in ("requested", "completed", "failed"))


def question(path="a.py", **more):
    return CodeAnalysisRequested(operation_type="PATTERN_EXTRACTION", source_path=path, **more)


async def analyse(request):
    """The least handler: one pattern named after the path."""
    pattern = CodePattern(name=request.source_path or "none")
    return CodeAnalysisCompleted(patterns=[pattern], query_time_ms=1, total_count=1)


async def test_answer(stage):
    """A request gets its typed answer; key, ids and chain are the request's."""
    client = await stage.client()
    await stage.responder()
    answer = await client.request(question("b.py"))
    assert isinstance(answer, CodeAnalysisCompleted)
    assert [pattern.name for pattern in answer.patterns] == ["b.py"]
    (asked,) = stage.cluster.records(ASKED)
    (told,) = stage.cluster.records(COMPLETED)
    sent, got = decode_envelope(asked.value), decode_envelope(told.value)
    assert asked.key == told.key == str(sent.correlation_id).encode()
    assert got.correlation_id == sent.correlation_id == answer.correlation_id
    assert got.causation_id == sent.event_id
    assert client.counts.completed == 1
    assert client.counts.pending == 0


async def test_other_trio(stage):
    """A client is typed by its trio; agent routing ships too."""

    async def route(request):
        return AgentRoutingCompleted(
            recommendations=[AgentRecommendation(agent_name=request.user_request, confidence=0.9)]
        )

    client = await stage.client(AGENT_ROUTING)
    await stage.responder(route, AGENT_ROUTING)
    answer = await client.request(AgentRoutingRequested(user_request="fix it"))
    assert answer.recommendations[0].agent_name == "fix it"


async def test_each_client_gets_its_own(stage):
    """Answers go to who asked, whatever their order and whoever else listens."""

    async def slow_first(request):
        await asyncio.sleep(0.05 if request.source_path.endswith("0") else 0)
        return await analyse(request)

    clients = [await stage.client() for _ in range(3)]
    await stage.responder(slow_first)
    paths = [f"{number}-{client}" for number in range(20) for client in range(3)]
    answers = await asyncio.gather(
        *(clients[n % 3].request(question(path)) for n, path in enumerate(paths))
    )
    assert [answer.patterns[0].name for answer in answers] == paths
    assert [client.counts.duplicates for client in clients] == [0, 0, 0]


async def test_slow_requests_do_not_hold_up_others(stage):
    """While one request is being handled, later ones of the same partition are answered."""
    gate = asyncio.Event()

    async def handle(request):
        if request.source_path == "slow":
            await gate.wait()
        return await analyse(request)

    client = await stage.client()
    await stage.responder(handle)
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(client.request(question("slow")))
        await stage.until(lambda: stage.cluster.records(ASKED))
        for number in range(50):
            await client.request(question(str(number)))
        assert not slow.done()
        gate.set()
    await stage.until(lambda: stage.committed() == 51)


async def test_failure_is_raised(stage):
    """A failed answer raises with its code, message, details, and whether to try again."""

    async def refuse(request):
        raise RequestFailedError(
            "the index is being built", code="NOT_READY", retriable=True, details={"after_s": 3}
        )

    client = await stage.client()
    await stage.responder(refuse)
    with pytest.raises(RequestFailedError, match="index is being built") as caught:
        await client.request(question())
    assert caught.value.code == "NOT_READY"
    assert caught.value.retriable is True
    assert caught.value.details == {"after_s": 3}
    assert client.counts.failed == 1


async def test_errors_of_a_handler(stage):
    """What a handler raises becomes a failed answer without its secrets, and is committed."""

    async def crash(request):
        raise ValueError("password=hunter22x")

    client = await stage.client()
    responder = await stage.responder(crash)
    with pytest.raises(RequestFailedError, match="ValueError") as caught:
        await client.request(question())
    assert (caught.value.code, caught.value.retriable) == ("INTERNAL_ERROR", False)
    assert "hunter22x" not in str(caught.value)
    await stage.until(lambda: stage.committed() == 1)
    assert responder.counts.failed == 1


async def test_wrong_answers_become_failures(stage):
    """An answer that its contract refuses becomes a failure that says so."""

    async def wrong(request):
        return CodeAnalysisCompleted.model_construct(
            patterns=[], query_time_ms=-1, total_count="many"
        )

    client = await stage.client()
    await stage.responder(wrong)
    with pytest.raises(RequestFailedError) as caught:
        await client.request(question())
    assert caught.value.code == "INVALID_ANSWER"


async def test_timeout_leaks_nothing(stage):
    """Without an answer in time the caller gets a TimeoutError, and nothing of it is left."""
    client = await stage.client()
    with pytest.raises(TimeoutError, match="within 20 ms") as caught:
        await client.request(question(), timeout_ms=20)
    assert isinstance(caught.value, DeliveryTimeoutError)
    assert client.counts.pending == 0
    assert client.counts.timed_out == 1
    asked = decode_envelope(stage.cluster.records(ASKED)[0].value)
    assert b'"timeout_ms":20' in asked.payload_json


async def test_each_request_has_its_own_time(stage):
    """Requests that share a timer end each in its time, the answered ones not at all."""
    client = await stage.client()
    tasks = [
        asyncio.ensure_future(client.request(question(), timeout_ms=limit))
        for limit in (20, 21, 60, 5000)
    ]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ended = {}
    for limit, task in zip((20, 21, 60), tasks, strict=False):
        with pytest.raises(DeliveryTimeoutError):
            await task
        ended[limit] = loop.time() - begun
    assert all(seconds >= limit / 1000 for limit, seconds in ended.items())
    assert ended[20] < 1
    await stage.responder()
    await tasks[3]
    assert (client.counts.timed_out, client.counts.completed) == (3, 1)
    assert client.counts.pending == 0


async def test_the_id_of_an_answer(stage):
    """The answer's id is the UUIDv5 of the request's, the same in every process and release."""
    client = await stage.client()
    await stage.responder()
    await client.request(question())
    sent = decode_envelope(stage.cluster.records(ASKED)[0].value)
    told = decode_envelope(stage.cluster.records(COMPLETED)[0].value)
    space = UUID("0b1c7a52-7d5f-5c0e-9a55-2f6a8d1f3c47")
    assert told.event_id == uuid5(space, str(sent.event_id))


async def test_a_handler_that_swallows_its_end(stage):
    """What it returns then is its answer, and the next request of the responder has its time."""

    async def stubborn(request):
        if request.source_path == "slow":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return await analyse(request)

    client = await stage.client()
    await stage.responder(stubborn, most_s=0.02)
    assert (await client.request(question("slow"))).patterns[0].name == "slow"
    assert (await client.request(question("b.py"))).patterns[0].name == "b.py"


async def test_handler_timeout(stage):
    """A handler that outlasts its caller is cancelled and the failure is published."""
    cancelled = asyncio.Event()

    async def hang(request):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await stage.client()
    await stage.responder(hang, most_s=0.02)
    with pytest.raises(RequestFailedError) as caught:
        await client.request(question())
    assert (caught.value.code, caught.value.retriable) == ("TIMEOUT", True)
    assert cancelled.is_set()


async def test_late_and_repeated_answers_are_dropped(stage):
    """An answer after the timeout counts as late, a second one as a duplicate."""
    client = await stage.client()
    with pytest.raises(TimeoutError):
        await client.request(question(), timeout_ms=10)
    late = decode_envelope(stage.cluster.records(ASKED)[0].value)
    await stage.responder()
    await client.request(question("c.py"))
    answer = CodeAnalysisCompleted(patterns=[], query_time_ms=1, total_count=0)
    event = OutgoingEvent(
        event_type="CODE_ANALYSIS_COMPLETED",
        payload=answer,
        correlation_id=str(late.correlation_id),
    )
    await stage.publisher.publish_event(event)
    again = next(
        record for record in stage.cluster.records(COMPLETED) if b"c.py" in (record.value or b"")
    )
    await stage.cluster.sender().send(
        [OutgoingRecord(COMPLETED, again.key, again.value, list(again.headers))]
    )
    await stage.until(lambda: client.counts.late and client.counts.duplicates)
    assert (client.counts.late, client.counts.duplicates) == (1, 1)


async def test_expired_requests_are_dropped(stage):
    """A request whose caller is gone is dropped, counted and committed; no handler sees it."""
    seen = []

    async def handle(request):
        seen.append(request.source_path)
        return await analyse(request)

    client = await stage.client()
    with pytest.raises(TimeoutError):
        await client.request(question("old"), timeout_ms=5)
    await asyncio.sleep(0.01)
    responder = await stage.responder(handle)
    await client.request(question("new"))
    await stage.until(lambda: stage.committed() == 2)
    assert seen == ["new"]
    assert responder.counts.expired == 1


async def test_cancelled_callers_leak_nothing(stage):
    """Cancelling a caller forgets its request."""
    client = await stage.client()
    task = asyncio.ensure_future(client.request(question()))
    await stage.until(lambda: stage.cluster.records(ASKED))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (client.counts.pending, client.counts.cancelled) == (0, 1)


async def test_close_ends_all_waits(stage):
    """Closing the client raises at everybody who waits; afterwards it refuses."""
    client = await stage.client()
    tasks = [asyncio.ensure_future(client.request(question())) for _ in range(3)]
    await stage.until(lambda: len(stage.cluster.records(ASKED)) == 3)
    await client.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ClosedError] * 3
    assert client.counts.pending == 0
    with pytest.raises(ClosedError):
        await client.request(question())


async def test_pending_requests_are_bounded(stage):
    """One request too many is refused before it is sent."""
    client = await stage.client(max_pending=2)
    tasks = [asyncio.ensure_future(client.request(question())) for _ in range(2)]
    await stage.until(lambda: len(stage.cluster.records(ASKED)) == 2)
    with pytest.raises(TooManyRequestsError) as caught:
        await client.request(question())
    assert (caught.value.limit, caught.value.retriable) == (2, True)
    await client.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(stage.cluster.records(ASKED)) == 2


async def test_refused_requests(stage):
    """A request that cannot be sent raises at once why."""
    client = await stage.client()
    with pytest.raises(InvalidEventError):
        await client.request(CodeAnalysisRequested.model_construct(operation_type=""))
    stage.cluster.faults.fail("send", BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        await client.request(question())
    assert (client.counts.not_sent, client.counts.pending) == (2, 0)


async def test_only_answers_from_now_on(stage):
    """A client reads nothing that was written before it was opened, and all that comes after."""
    await stage.responder()
    first = await stage.client()
    await first.request(question())
    second = await stage.client()
    polled = []
    second._answers._on_records = polled.extend
    await first.request(question("later"))
    await stage.until(lambda: polled)
    assert [b"later" in record.value for record in polled] == [True]


async def test_reading_goes_on_after_faults(stage):
    """When reading answers fails, it goes on where it stood: an answer in between is found."""
    client = await stage.client()
    await stage.responder()
    await client.request(question())
    stage.cluster.faults.fail("open", BrokerUnavailableError("away"))

    failed = asyncio.Event()

    async def fail_once(operation, about):
        if operation == "poll" and about and about[0][0] == COMPLETED and not failed.is_set():
            failed.set()
            raise BrokerUnavailableError("connection lost")

    stage.cluster.faults.hook = fail_once
    await client.request(question())
    async with asyncio.timeout(5):
        await failed.wait()
    assert (await client.request(question("again"))).patterns[0].name == "again"


async def test_faults_that_no_retry_cures_are_told(stage):
    """Credentials that are refused while reading are raised at who waits."""
    client = await stage.client()
    task = asyncio.ensure_future(client.request(question()))
    await stage.until(lambda: stage.cluster.records(ASKED))
    stage.cluster.faults.fail("poll", UnauthorisedError("no"), times=1)
    sender = stage.cluster.sender()
    await sender.send([OutgoingRecord(COMPLETED, b"k", b"v", [])])
    with pytest.raises(UnauthorisedError):
        await task


async def test_unreadable_answers_are_raised(stage):
    """An answer that is no answer ends the wait with the reason."""
    client = await stage.client()
    task = asyncio.ensure_future(client.request(question()))
    await stage.until(lambda: stage.cluster.records(ASKED))
    (asked,) = stage.cluster.records(ASKED)
    record = OutgoingRecord(COMPLETED, asked.key, asked.value, list(asked.headers))
    await stage.cluster.sender().send([record])
    with pytest.raises(UndecodableError):
        await task
    assert client.counts.unreadable == 1


async def test_unknown_topics(stage):
    """A client on a cluster without the topics fails when it is opened."""
    bare = MemoryCluster({})
    client = RequestClient(
        CODE_ANALYSIS,
        publisher=stage.publisher,
        open_reader=bare.reader,
        catalogue=stage.catalogue,
        environment="dev",
    )
    with pytest.raises(UnknownTopicError):
        await client.open()


async def test_what_is_no_request(stage):
    """A record that is no request is buried, answered as such, and does not stop the others."""
    client = await stage.client()
    letters = DeadLetterQueue(stage.cluster.sender(), group="analysers")
    sender = stage.cluster.sender()
    headers = [
        ("content_type", b"application/json"),
        ("correlation_id", str(uuid4()).encode()),
        ("message_id", str(uuid4()).encode()),
        ("event_type", b"CODE_ANALYSIS_REQUESTED"),
    ]
    tick = [("event_type", TICK.encode())]
    await sender.send(
        [
            OutgoingRecord(ASKED, b"k", b"rubbish", headers),
            OutgoingRecord(ASKED, b"k", None, []),
            OutgoingRecord(ASKED, b"k", b"", tick),
        ]
    )
    responder = await stage.responder(dead_letters=letters)
    await client.request(question())
    await stage.until(lambda: stage.committed() == 4)
    assert len(stage.cluster.records(f"{ASKED}.dlq")) == 2
    (told,) = stage.cluster.records(FAILED)
    assert told.key == dict(headers)["correlation_id"]
    payload = decode_envelope(told.value).payload_json
    assert CodeAnalysisFailed.model_validate_json(payload).error_code == "INVALID_REQUEST"
    assert responder.counts.unreadable == 2


async def test_committed_after_the_answer(stage):
    """A request is committed once its answer is acknowledged, and not past one that is not."""
    client = await stage.client()
    await stage.responder(publisher=stage.make_publisher("answerer"))
    held = asyncio.Event()

    async def hold(operation, about):
        if operation == "send" and about[0].topic == COMPLETED:
            await held.wait()

    stage.cluster.faults.hook = hold
    task = asyncio.ensure_future(client.request(question()))
    await stage.until(lambda: stage.cluster.records(ASKED))
    await asyncio.sleep(0.05)
    assert stage.committed() == 0
    held.set()
    await task
    await stage.until(lambda: stage.committed() == 1)


async def test_answers_are_sent_again(stage):
    """While the bus refuses an answer for now, it is sent again, with one event id."""
    client = await stage.client()
    await stage.responder(publisher=stage.make_publisher("answerer"))
    tries = []

    async def lose_two(operation, about):
        if operation == "send" and about[0].topic == COMPLETED:
            tries.append(dict(about[0].headers)["message_id"])
            if len(tries) < 3:
                raise BrokerUnavailableError("away")

    stage.cluster.faults.hook = lose_two
    await client.request(question())
    assert len(tries) == 3
    assert len(set(tries)) == 1


async def test_redelivery_is_answered_once(stage):
    """A request that comes again is not handled again in one process, and answered with one id."""
    handled = []

    async def handle(request):
        handled.append(request.correlation_id)
        return await analyse(request)

    client = await stage.client()
    responder = await stage.responder(handle)
    await client.request(question())
    (asked,) = stage.cluster.records(ASKED)
    copy = OutgoingRecord(ASKED, asked.key, asked.value, list(asked.headers))
    await stage.cluster.sender().send([copy])
    await stage.until(lambda: responder.counts.repeated == 1)
    assert len(handled) == 1
    await responder.close()
    await stage.cluster.sender().send([copy])
    await stage.responder(handle)
    await stage.until(lambda: len(stage.cluster.records(COMPLETED)) == 2)
    ids = {decode_envelope(record.value).event_id for record in stage.cluster.records(COMPLETED)}
    assert len(handled) == 2
    assert len(ids) == 1


async def test_close_of_a_responder_finishes_what_is_in_hand(stage):
    """Closing the responder answers and commits what it has taken."""
    gate = asyncio.Event()

    async def handle(request):
        await gate.wait()
        return await analyse(request)

    client = await stage.client()
    responder = await stage.responder(handle)
    task = asyncio.ensure_future(client.request(question()))
    await stage.until(lambda: responder.counts.running == 1)
    closing = asyncio.ensure_future(responder.close())
    await asyncio.sleep(0.01)
    gate.set()
    await closing
    assert (await task).total_count == 1
    assert stage.committed() == 1


async def test_no_more_at_a_time_than_allowed(stage):
    """Of many requests only so many are in hand; the others wait, also past a close."""
    running, most = [0], [0]
    gate = asyncio.Event()

    async def handle(request):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await gate.wait()
        running[0] -= 1
        return await analyse(request)

    client = await stage.client()
    first = await stage.responder(handle, concurrency=3)
    asked = [asyncio.ensure_future(client.request(question(str(n)))) for n in range(30)]
    await stage.until(lambda: len(stage.cluster.records(ASKED)) == 30 and running[0] == 3)
    assert first.counts.running == 3
    closing = asyncio.ensure_future(first.close())
    await asyncio.sleep(0.01)
    gate.set()
    await closing
    assert first.counts.completed == 3
    await stage.responder(handle, concurrency=3)
    answers = await asyncio.gather(*asked)
    assert [told.patterns[0].name for told in answers] == [str(n) for n in range(30)]
    assert most[0] == 3
    assert client.counts.duplicates == 0


async def test_two_responders_share(stage):
    """Responders of one group share the requests; each is answered once."""
    client = await stage.client()
    one = await stage.responder(publisher=stage.make_publisher("one"))
    two = await stage.responder(publisher=stage.make_publisher("two"))
    await asyncio.gather(*(client.request(question(str(n))) for n in range(200)))
    assert one.counts.completed + two.counts.completed == 200
    assert min(one.counts.completed, two.counts.completed) > 0

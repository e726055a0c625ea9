"""What a publisher reports of what it published, over a transport in memory."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import OutgoingEvent
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventPublisher, PublishAudit
from spile.spi import BrokerUnavailableError, RejectedError
from spile.topics import default_catalogue
from spile.topics.events import AuditCounted

AUDIT = "dev.spile.audit.counted.v1"
TOOL = "dev.shop.tool.recorded.v1"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def catalogue():
    return default_catalogue(services=("shop",))


@pytest.fixture
def cluster(catalogue):
    return MemoryCluster.of_catalogue(catalogue, "dev")


@pytest.fixture
def make_publisher(cluster, catalogue):
    def make(**options):
        sender = cluster.sender()
        audit = PublishAudit(service="shop", instance_id="a", every_s=options.pop("every_s", 60))
        return EventPublisher(
            sender,
            options.pop("catalogue", catalogue),
            environment="dev",
            service="shop",
            refused=DeadLetterQueue(sender, group="publisher.shop"),
            audit=audit,
        )

    return make


def tool_use(at=AT):
    payload = {
        "event_id": str(uuid4()),
        "timestamp": at.isoformat(),
        "agent_id": str(uuid4()),
        "event_type": "PreToolUse",
        "event_category": "tool",
        "metadata": {"schema_version": "1.1.0"},
        "payload": {"tool_name": "Read", "parameters": {}},
    }
    return OutgoingEvent(event_type="PRE_TOOL_USE", payload=payload)


def reports(cluster):
    """Return the reports on the bus."""
    payloads = [json.loads(record.value)["payload"] for record in cluster.records(AUDIT)]
    return [AuditCounted.model_validate(payload) for payload in payloads]


def totals(cluster):
    """Add up all reports, each sequence once."""
    found = Counter()
    for report in {r.sequence: r for r in reports(cluster)}.values():
        for row in report.rows:
            found[row.topic, f"{row.minute:%H:%M}"] += row.acknowledged
    return found


async def test_acknowledged_events_are_reported_by_topic_and_minute(make_publisher, cluster):
    """The last report is final, and all reports add up to what was published, one by one or not."""
    async with make_publisher() as publisher:
        await publisher.publish_many([tool_use(), tool_use(AT + timedelta(minutes=1)), tool_use()])
        await publisher.publish_event(tool_use())
        await publisher._audit.report()
        await publisher.publish_event(tool_use())
    assert totals(cluster) == {(TOOL, "03:04"): 4, (TOOL, "03:05"): 1}
    assert [(r.sequence, r.final) for r in reports(cluster)] == [(1, False), (2, True)]


async def test_a_publisher_that_said_nothing_reports_nothing(make_publisher, cluster):
    """A process that only starts and ends leaves no trace in the audit."""
    async with make_publisher():
        pass
    assert reports(cluster) == []


async def test_reports_come_by_themselves(make_publisher, cluster):
    """After an event its count, then one empty report that there is no more, then silence."""
    publisher = make_publisher(every_s=0.01)
    await publisher.publish_event(tool_use())
    async with asyncio.timeout(5):
        while len(reports(cluster)) < 2:  # noqa: ASYNC110 - the bus tells nobody
            await asyncio.sleep(0.005)
    assert publisher._audit._timer is None
    assert [(r.sequence, len(r.rows), r.final) for r in reports(cluster)] == [
        (1, 1, False),
        (2, 0, False),
    ]
    await publisher.close()


async def test_an_old_report_does_not_keep_the_last_word_back(make_publisher, cluster):
    """What could not be written before is written at the close, and the final report after it."""
    async with make_publisher() as publisher:
        await publisher.publish_event(tool_use())
        cluster.faults.fail("send", BrokerUnavailableError("away"))
        await publisher._audit.report()
    assert [(r.sequence, r.final) for r in reports(cluster)] == [(1, False), (2, True)]


async def test_indefinite_and_refused_events_are_counted_apart(make_publisher, cluster):
    """What may be on the bus and what is in the dead letter queue are not what is acknowledged."""
    async with make_publisher() as publisher:
        cluster.faults.fail("send", BrokerUnavailableError("away"))
        assert not await publisher.publish_event(tool_use())
        cluster.faults.fail("send", RejectedError("no", code="INVALID_RECORD"))
        assert not await publisher.publish_event(tool_use())
    (report,) = reports(cluster)
    (row,) = report.rows
    assert (row.acknowledged, row.indefinite, row.dead_lettered) == (0, 1, 1)


async def test_a_report_that_is_not_acknowledged_is_written_again_as_it_is(make_publisher, cluster):
    """Same sequence and same event id, before the next: whoever reads it twice counts it once."""
    async with make_publisher() as publisher:
        await publisher.publish_event(tool_use())
        cluster.faults.fail("send", BrokerUnavailableError("away"))
        await publisher._audit.report()
        assert reports(cluster) == []
        await publisher.publish_event(tool_use())
        await publisher._audit.report()
        assert [(r.sequence, r.rows[0].acknowledged) for r in reports(cluster)] == [(1, 1), (2, 1)]
    assert totals(cluster) == {(TOOL, "03:04"): 2}
    assert [(r.sequence, r.final) for r in reports(cluster)] == [(1, False), (2, False), (3, True)]


async def test_without_the_audit_topic_publishing_goes_on(catalogue, make_publisher):
    """A cluster that has no audit topic costs one attempt and no error."""
    topics = {name: 1 for name in catalogue.topics("dev") if "spile.audit" not in name}
    cluster = MemoryCluster(topics)
    publisher = EventPublisher(
        cluster.sender(),
        catalogue,
        environment="dev",
        service="shop",
        audit=PublishAudit(service="shop"),
    )
    assert await publisher.publish_event(tool_use())
    await publisher._audit.report()
    assert await publisher.publish_event(tool_use())
    await publisher.close()
    assert publisher._audit._rows == {}
    assert len(cluster.records(TOOL)) == 2


async def test_many_rows_are_reported_in_parts_and_the_rest_counted_together(
    make_publisher, cluster, monkeypatch
):
    """An import of years stays bounded in memory, and its reports bounded in size."""
    monkeypatch.setattr("spile.adapters.publishing._auditing._MOST_ROWS", 5)
    monkeypatch.setattr("spile.adapters.publishing._auditing._ROWS_A_REPORT", 2)
    async with make_publisher() as publisher:
        await publisher.publish_many([tool_use(AT + timedelta(hours=n)) for n in range(8)])
    assert [len(r.rows) for r in reports(cluster)] == [2, 2, 1]
    assert [(r.final, r.uncounted) for r in reports(cluster)] == [(False, 0), (False, 0), (True, 3)]


async def test_a_cancelled_publish_is_indefinite(make_publisher, cluster):
    """Whoever gives up waiting does not know whether the event is on the bus."""
    publisher = make_publisher()
    started = asyncio.Event()

    async def wait(operation, about):
        if operation == "send" and TOOL in str(about):
            started.set()
            await asyncio.Event().wait()

    cluster.faults.hook = wait
    task = asyncio.ensure_future(publisher.publish_many([tool_use()]))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    cluster.faults.clear()
    await publisher.close()
    (report,) = reports(cluster)
    assert (report.rows[0].acknowledged, report.rows[0].indefinite) == (0, 1)

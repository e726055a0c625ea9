"""Administration of a real cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    RejectedError,
    RetriableError,
    UnknownTopicError,
)
from spile.topics import Catalogue, TopicSetup, TopicSpec, plan

pytestmark = pytest.mark.kafka


@pytest.fixture
async def admin(kafka_settings):
    """An open admin client on the session's broker."""
    async with KafkaAdmin(kafka_settings) as opened:
        yield opened


def catalogue(stem, **changes):
    spec = TopicSpec(name=f"{stem}.orders.placed.v1", owner="shop", partitions=2, **changes)
    return Catalogue([spec]).topics("test")


async def planned(admin, wanted):
    return plan(
        wanted, await admin.describe(), brokers=await admin.broker_count(), environment="test"
    )


async def test_a_catalogue_is_applied_until_nothing_differs(admin, unique):
    wanted = catalogue(unique("shop"))
    first = await planned(admin, wanted)
    assert {setup.topic for setup in first.missing} == set(wanted)
    assert len(await admin.apply(first)) == 3
    again = await planned(admin, wanted)
    assert again.is_empty
    assert await admin.apply(again) == []


async def test_one_refused_topic_keeps_no_other_from_being_made(admin, unique):
    """Topics are made together; one that is there already is named, the others are there."""
    names = sorted(unique("t") for _ in range(90))
    setups = [TopicSetup(topic=name, partitions=2, replication=1, config={}) for name in names]
    await admin.create(setups[20])
    with pytest.raises(RejectedError, match=names[20]):
        await admin.create(*setups[:40])
    await admin.create(*setups[40:])
    assert set(names) <= set(await admin.topics())
    assert len(await admin.partitions(names)) == 180


async def test_drift_is_set_back_and_settings_of_others_stay(admin, unique):
    stem = unique("shop")
    wanted = catalogue(stem)
    await admin.apply(await planned(admin, wanted))
    topic = f"test.{stem}.orders.placed.v1"
    await admin.configure(topic, {"segment.bytes": "2000000", "retention.ms": "60000"})
    changed = catalogue(stem, retention=timedelta(days=2), cleanup="delete")
    done = await admin.apply(await planned(admin, changed))
    assert any("retention.ms=172800000" in line for line in done)
    assert (await planned(admin, changed)).is_empty
    assert (await admin.overrides(topic))["segment.bytes"] == "2000000"


async def test_partitions_grow_only_with_leave(admin, unique):
    stem = unique("shop")
    await admin.apply(await planned(admin, catalogue(stem)))
    more = Catalogue(
        [TopicSpec(name=f"{stem}.orders.placed.v1", owner="shop", partitions=3)]
    ).topics("test")
    wanted = await planned(admin, more)
    assert await admin.apply(wanted) == []
    assert len(await admin.apply(wanted, allow_rekey=True)) == 2
    assert (await planned(admin, more)).is_empty


async def test_a_topic_that_is_there_is_refused_with_the_code_of_the_broker(admin, bench):
    topic = await bench.topic()
    with pytest.raises(RejectedError) as caught:
        await admin.create(TopicSetup(topic=topic, partitions=1, replication=1, config={}))
    assert caught.value.code == "TOPIC_ALREADY_EXISTS"


async def test_a_wrong_value_or_factor_is_refused(admin, bench, unique):
    topic = await bench.topic()
    with pytest.raises(RejectedError) as caught:
        await admin.configure(topic, {"retention.ms": "soon"})
    assert caught.value.code == "INVALID_CONFIG"
    with pytest.raises(RejectedError) as caught:
        await admin.create(TopicSetup(topic=unique("t"), partitions=1, replication=9, config={}))
    assert caught.value.code == "INVALID_REPLICATION_FACTOR"


async def test_unknown_topics_are_named_and_not_made(admin, unique):
    name = unique("none")
    for call in (
        lambda: admin.configure(name, {"retention.ms": "1"}),
        lambda: admin.grow(name, 3),
        lambda: admin.delete_topics([name]),
        lambda: admin.partitions([name]),
        lambda: admin.end_offsets([(name, 0)]),
        lambda: admin.overrides(name),
    ):
        with pytest.raises(UnknownTopicError, match=name):
            await call()
    assert name not in await admin.topics()


async def test_offsets_and_lag_follow_writing_reading_and_deleting(admin, bench):
    topic, group = await bench.topic(2), bench.unique("g")
    await bench.send(topic, b"1", b"2", b"3", partition=1)
    assert await admin.group_lag(group, [topic]) == {(topic, 0): 0, (topic, 1): 3}
    source = await bench.source([topic], group)
    await source.commit({(topic, 1): 1})
    assert group in await admin.groups()
    assert await admin.committed(group, [(topic, 0), (topic, 1)]) == {(topic, 0): 0, (topic, 1): 1}
    assert await admin.group_lag(group, [topic]) == {(topic, 0): 0, (topic, 1): 2}
    await admin.delete_records({(topic, 1): 2})
    assert await admin.beginning_offsets([(topic, 1)]) == {(topic, 1): 2}
    assert await admin.end_offsets([(topic, 0), (topic, 1)]) == {(topic, 0): 0, (topic, 1): 3}


async def test_a_deleted_topic_is_gone(admin, bench):
    topic = await bench.topic()
    await admin.delete_topics([topic])
    assert topic not in await admin.topics()


async def test_without_a_broker_and_after_closing_calls_say_so():
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    admin = KafkaAdmin(settings)
    with pytest.raises(BrokerUnavailableError) as caught:
        await admin.__aenter__()
    assert isinstance(caught.value, RetriableError)
    with pytest.raises(ClosedError):
        await admin.topics()

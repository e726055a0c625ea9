"""Writing records in transactions that one owner holds at a time."""

from __future__ import annotations

import asyncio
import os

import pytest

from spile.adapters.delivery import FencedError, OutgoingRecord
from spile.adapters.kafka import KafkaLogReader, KafkaTransactions
from spile.spi import ClosedError, PermanentError


@pytest.fixture
async def transactions(bench):
    made = []

    def make(name):
        made.append(KafkaTransactions(bench.settings, name))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def _values(settings, topic):
    reader = KafkaLogReader(settings)
    try:
        (partition,) = await reader.partitions([topic])
        end = (await reader.ends([partition]))[partition]
        await reader.open({partition: 0})
        values = []
        async with asyncio.timeout(10):
            while reader.positions()[partition] < end:
                for records in (await reader.poll(timeout_s=0.2, max_records=100)).values():
                    values += [record.value for record in records]
        return values
    finally:
        await reader.close()


def _record(topic, value):
    return OutgoingRecord(topic, b"k", value, [("h", b"\xff"), ("h", None)])


async def test_writes_all_or_nothing(bench, transactions):
    """What one write holds is in the log together; a refused record takes the others along."""
    topic, other = await bench.topic(), await bench.topic(max_message_bytes="1000")
    owner = transactions(bench.unique("tx"))
    await owner.claim()
    await owner.write([_record(topic, b"1"), _record(other, b"1")])
    with pytest.raises(PermanentError):
        await owner.write([_record(topic, b"2"), _record(other, os.urandom(5000))])
    with pytest.raises(ClosedError):
        await owner.write([_record(topic, b"3")])
    await owner.claim()
    await owner.write([_record(topic, b"4")])
    assert await _values(bench.settings, topic) == [b"1", b"4"]
    assert await _values(bench.settings, other) == [b"1"]


async def test_the_last_claim_holds(bench, transactions):
    """A second owner fences the first, which writes nothing more."""
    topic, name = await bench.topic(), bench.unique("tx")
    first, second = transactions(name), transactions(name)
    await first.claim()
    await first.write([_record(topic, b"1")])
    await second.claim()
    with pytest.raises(FencedError):
        await first.write([_record(topic, b"fenced")])
    await second.write([_record(topic, b"2")])
    assert await _values(bench.settings, topic) == [b"1", b"2"]

"""Which part of the log to read, and reading it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from spile.adapters.delivery import LogReader
from spile.spi import DeliveryTimeoutError, PartitionKey, ProtocolRecord, UnknownTopicError

_POLL_S = 0.5
_MAX_RECORDS = 2_000
_SILENCE_S = 30.0


@dataclass(slots=True)
class Span:
    """
    The part of one topic to read.

    Attributes:
        beginnings: First offset that the log still has, by partition.
        starts: First offset to read.
        ends: Offset behind the last to read.
    """

    beginnings: dict[PartitionKey, int] = field(default_factory=dict[PartitionKey, int])
    starts: dict[PartitionKey, int] = field(default_factory=dict[PartitionKey, int])
    ends: dict[PartitionKey, int] = field(default_factory=dict[PartitionKey, int])


async def spans(reader: LogReader, topics: Sequence[str], since_ms: int) -> dict[str, Span]:
    """
    Return what to read of topics: from a record time on to their ends now.

    All are asked for at once, which costs no more than one. A topic that is not there is left out.

    Args:
        reader: Of the log.
        topics: Full names.
        since_ms: Record time in milliseconds.

    Raises:
        RetriableError: The broker is away.
    """
    wanted = list(topics)
    while True:
        try:
            partitions = await reader.partitions(wanted)
        except UnknownTopicError as exc:
            if exc.topic not in wanted:
                raise
            wanted.remove(exc.topic)
        else:
            break
    found = {topic: Span() for topic in wanted}
    if not partitions:
        return found
    beginnings = await reader.beginnings(partitions)
    ends = await reader.ends(partitions)
    since = await reader.since(partitions, since_ms)
    for key in partitions:
        span = found[key[0]]
        span.beginnings[key] = beginnings[key]
        span.starts[key] = max(beginnings[key], since[key])
        span.ends[key] = ends[key]
    return found


async def walk(reader: LogReader, span: Span) -> AsyncGenerator[Sequence[ProtocolRecord]]:
    """
    Yield the records of a span, in order per partition, and end.

    Args:
        reader: Opened anew here.
        span: What to read.

    Raises:
        DeliveryTimeoutError: Nothing came for 30 s.
        RejectedError: Records were deleted while they were read (`OFFSET_OUT_OF_RANGE`).
        RetriableError: The broker is away.
    """
    ends = span.ends
    left = {key: start for key, start in span.starts.items() if start < ends[key]}
    if not left:
        return
    await reader.open(left)
    loop = asyncio.get_running_loop()
    moved = loop.time()
    while left:
        polled = await reader.poll(timeout_s=_POLL_S, max_records=_MAX_RECORDS)
        for key, records in polled.items():
            if key in left:
                yield [record for record in records if record.offset < ends[key]]
        positions = reader.positions()
        reached = {key: positions[key] for key in left}
        if reached != left or polled:
            moved = loop.time()
        elif loop.time() - moved > _SILENCE_S:
            names = ", ".join(f"{topic}[{number}]" for topic, number in left)
            raise DeliveryTimeoutError(f"{names} gave nothing for {_SILENCE_S:.0f} s")
        left = {key: at for key, at in reached.items() if at < ends[key]}

"""Reading partitions from one offset up to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from spile.adapters.delivery import LogReader
from spile.spi import DeliveryTimeoutError, PartitionKey, ProtocolRecord

_POLL_S = 0.5
_MAX_RECORDS = 2_000
_SILENCE_S = 30.0


async def walk(
    reader: LogReader, starts: Mapping[PartitionKey, int], ends: Mapping[PartitionKey, int]
) -> AsyncGenerator[Sequence[ProtocolRecord]]:
    """
    Yield the records of partitions, in order per partition, and end.

    Args:
        reader: Opened anew here.
        starts: First offset, by partition.
        ends: Offset behind the last, by partition.

    Raises:
        DeliveryTimeoutError: Nothing came for 30 s.
        RejectedError: Records were deleted while they were read (`OFFSET_OUT_OF_RANGE`).
        RetriableError: The broker is away.
    """
    left = {key: start for key, start in starts.items() if start < ends[key]}
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

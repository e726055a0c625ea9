"""The archiver on the bus in memory."""

import asyncio
import threading
from datetime import timedelta

import pytest
from spile.services.archiver import DivergedError, OvertakenError, archive
from spile.services.archiver.objects import CuttingRule, PartitionCutter
from spile.services.archiver.stores import ArchiveUnavailableError, FolderStore
from spile.spi import SpileError


async def test_each_offset_is_archived_once(bus, publish, folder, archiving, look, until, topic):
    """Whole objects are archived and committed; the tail waits and is read anew after a restart."""
    found = look(folder)
    await publish(250)
    async with archiving(bus, folder):
        await until(lambda: found.archived() == 200)
        await until(lambda: bus.cluster.committed("archiver").get((topic, 0)) == 200)
    await publish(50)
    async with archiving(bus, folder):
        await until(lambda: found.archived() == 300)

    assert found.offsets() == list(range(300))
    assert [row["value"] for row in found.records()][249:252] == [
        b"0000000249",
        b"0000000000",
        b"0000000001",
    ]

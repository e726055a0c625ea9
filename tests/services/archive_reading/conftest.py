"""Archives to read: cut by the archiver's own cutter, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from spile.services.archiver.objects import CuttingRule, PartitionCutter, SealedObject
from spile.services.archiver.stores import FolderStore

TOPIC = "dev.agent.tool.recorded.v1"

Filler = Callable[..., list[SealedObject]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of the archive."""
    return tmp_path / "archive"


@pytest.fixture
def folder(root: Path) -> FolderStore:
    """The archive's store."""
    return FolderStore(root)


@pytest.fixture
def fill(folder: FolderStore) -> Filler:
    """Put records of one partition into the archive, some into each object; return the objects."""

    def put(records, *, per_object=10, position=None):
        records = list(records)
        rule = CuttingRule(records=per_object, window=timedelta.max)
        first = records[0]
        cutter = PartitionCutter(rule, first.topic, first.partition, position=position)
        sealed = [found for record in records if (found := cutter.add(record)) is not None]
        assert sealed[-1].manifest.last_offset == records[-1].offset
        for one in sealed:
            assert folder.put(one.manifest.object, one.data)
            assert folder.put(one.manifest.key, one.manifest.to_json())
        return sealed

    return put

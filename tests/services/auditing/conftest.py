"""A small world in memory: a publisher that reports, a real store, a real archive, an auditor."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import OutgoingEvent, OutgoingRecord
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import EventPublisher, PublishAudit
from spile.services.archiver.objects import CuttingRule, PartitionCutter
from spile.services.archiver.stores import FolderStore
from spile.services.auditing import Auditor, SqliteStoreTier, Window
from spile.services.command.audit._archive import archive_tier
from spile.services.persistence import Decoder, PersistenceHandler, SqliteEventStore
from spile.topics import default_catalogue

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class World:
    """Each step is one tier's work; what is left out is what a tier has not done."""

    topic = "dev.shop.tool.recorded.v1"
    reports = "dev.spile.audit.counted.v1"
    at = AT

    def __init__(self, folder):
        self.now = AT
        self.catalogue = default_catalogue(services=("shop",))
        self.cluster = MemoryCluster.of_catalogue(
            self.catalogue, "dev", clock=lambda: int(self.now.timestamp() * 1000)
        )
        self.sender = self.cluster.sender()
        self.database = folder / "events.db"
        self.archive = FolderStore(folder / "archive")
        self._stored = {}
        self._cutters = {}
        self._archived = {}

    def publisher(self, instance="a"):
        """Return a publisher that reports when it is told to."""
        audit = PublishAudit(
            service="shop", instance_id=instance, every_s=3600, clock=lambda: self.now
        )
        return EventPublisher(
            self.cluster.sender(),
            self.catalogue,
            environment="dev",
            service="shop",
            refused=DeadLetterQueue(self.sender, group="publisher.shop"),
            audit=audit,
        )

    def event(self, *, at=AT, event_id=None):
        """Return an event of an agent of its own."""
        payload = {
            "event_id": event_id or str(uuid4()),
            "timestamp": at.isoformat(),
            "agent_id": str(uuid4()),
            "event_type": "PreToolUse",
            "event_category": "tool",
            "metadata": {"schema_version": "1.1.0"},
            "payload": {"tool_name": "Read", "parameters": {}},
        }
        return OutgoingEvent(event_type="PRE_TOOL_USE", payload=payload)

    async def publish(self, *minutes):
        """Publish one event for each minute after the beginning, with the last word."""
        async with self.publisher() as publisher:
            made = [self.event(at=AT + timedelta(minutes=minute)) for minute in minutes]
            assert all(await publisher.publish_many(made))

    async def poison(self):
        """Write a record that nobody can decode."""
        headers = [("timestamp", AT.isoformat().encode()), ("content_type", b"application/json")]
        await self.sender.send([OutgoingRecord(self.topic, b"k", b"{", headers)])

    def _news(self, done):
        partitions = {}
        for record in self.cluster.records(self.topic):
            partitions.setdefault(record.partition, []).append(record)
        for number, records in sorted(partitions.items()):
            news = records[done.get(number, 0) :]
            done[number] = len(records)
            if news:
                yield news

    async def persist(self):
        """Do what the persistence worker does."""
        async with SqliteEventStore(self.database) as store:
            queue = DeadLetterQueue(self.sender, group="persistence")
            handler = PersistenceHandler(
                store, Decoder(self.catalogue, "dev"), queue, group="persistence"
            )
            for news in self._news(self._stored):
                await handler(news)

    def archive_all(self, records=1):
        """Do what the archiver does; each object holds so many records."""
        rule = CuttingRule(records=records)
        for news in self._news(self._archived):
            number = news[0].partition
            cutter = self._cutters.setdefault(number, PartitionCutter(rule, self.topic, number))
            for record in news:
                for sealed in cutter.add(record):
                    assert self.archive.put(sealed.manifest.object, sealed.data)
                    assert self.archive.put(sealed.manifest.key, sealed.manifest.to_json())

    def sql(self, statement, *values):
        """Change the store behind everybody's back."""
        with closing(sqlite3.connect(self.database)) as database:
            database.execute(statement, values)
            database.commit()

    async def audit(self, **changes):
        """Compare; two hours later, unless said otherwise."""
        later = changes.pop("later", timedelta(hours=2))
        auditor = Auditor(
            readers=self.cluster.reader,
            reports=self.reports,
            store=SqliteStoreTier(self.database) if self.database.exists() else None,
            archive=archive_tier(self.archive),
        )
        window = Window(
            since=changes.pop("since", AT - timedelta(hours=1)),
            until=AT + timedelta(hours=1),
            now=self.now + later,
        )
        return await auditor.run([self.topic], window)


@pytest.fixture
def world(tmp_path):
    """A new world."""
    return World(tmp_path)

"""Members of one group that come and go while their handlers are slow."""

import asyncio
import contextlib
import json
import signal
from collections import Counter

from spile.adapters.kafka import KafkaEventBusAdapter
from spile.adapters.subscribing import SubscriptionOptions
from spile.testkit.ledger import Observation, Seen, check, read_history

TOPIC = "dev.spile.load.sequenced.v1"
SLOW_S = 1.3
"""Longer than the session of a member, which must stay in the group all the same."""


class Sink:
    """Keeps each event once, and counts what it is given twice or by two members at a time."""

    def __init__(self):
        self.rows = []
        self.given = Counter()
        self.ids = set()
        self.busy = set()
        self.overlaps = 0
        self.slow = 0

    @contextlib.contextmanager
    def _alone(self, places):
        self.overlaps += len(self.busy & places)
        self.busy |= places
        try:
            yield
        finally:
            self.busy -= places

    def _take(self, record):
        body = json.loads(record.value)
        place = (record.topic, record.partition, record.offset)
        self.given[place] += 1
        if body["event_id"] not in self.ids:
            self.ids.add(body["event_id"])
            payload = body["payload"]
            self.rows.append(Seen(body["event_id"], payload["key"], payload["seq"], *place))

    async def on_message(self, message):
        record = message.record
        with self._alone({record.partition}):
            if record.offset % 150 == 75:
                self.slow += 1
                await asyncio.sleep(SLOW_S)
            self._take(record)

    async def on_batch(self, records):
        with self._alone({record.partition for record in records}):
            self.slow += 1
            await asyncio.sleep(SLOW_S)
            for record in records:
                self._take(record)

    @property
    def redelivered(self):
        return sum(self.given.values()) - len(self.given)


class Members:
    """Adapters that each hold one member of the group."""

    def __init__(self, rig, sink, group):
        self.sink = sink
        self.group = group
        self._settings = rig.settings
        self._adapters = []

    async def join(self):
        adapter = KafkaEventBusAdapter(
            self._settings, group="tests", options=SubscriptionOptions(drain_limit_s=2.9)
        )
        self._adapters.append(adapter)
        if self.group == "by-batch":
            await adapter.subscribe_batches([TOPIC], self.group, self.sink.on_batch)
        else:
            await adapter.subscribe(TOPIC, self.group, self.sink.on_message)

    async def leave(self):
        """Let the oldest member leave in peace."""
        await self._adapters.pop(0).close()

    async def all_leave(self):
        while self._adapters:
            await self.leave()


async def test_slow_handlers_through_rebalances(make_rig):
    """Members join and leave during slow calls: drained, committed, nothing lost or redelivered."""
    rig = await make_rig()
    load = rig.load(rate=300, keys=24)
    groups = [Members(rig, Sink(), group) for group in ("by-message", "by-batch")]
    changes = await asyncio.gather(*(come_and_go(rig, members) for members in groups))
    await rig.acknowledges(2100)
    load.send(signal.SIGTERM)
    assert await load.ended(30) == 0, load.tail()
    ends = await rig.ends()
    bus = await rig.observe_bus()
    for members, changed in zip(groups, changes, strict=True):
        sink = members.sink
        await rig.until(lambda sink=sink: len(sink.given) >= sum(ends.values()))
        await members.all_leave()
        committed = await rig.committed(members.group)
        verdict = check(
            read_history(rig.history),
            [Observation(sink="sink", rows=sink.rows, committed=committed), bus],
            faults_seen=changed,
            min_faults=5,
        )
        rig.report(
            f"rebalance {members.group}",
            verdict,
            changes=changed,
            slow_calls=sink.slow,
            redelivered=sink.redelivered,
            overlaps=sink.overlaps,
        )
        assert verdict.valid, verdict
        assert rig.settings.session_timeout_ms / 1000 < SLOW_S
        assert sink.slow >= 5
        assert (sink.redelivered, sink.overlaps) == (0, 0)
        assert committed == ends


async def come_and_go(rig, members):
    """Change the members five times under load; return how often they changed."""
    await members.join()
    changes = 0
    rows = members.sink.rows
    for change in (members.join, members.leave, members.join, members.join, members.leave):
        wanted = len(rows) + 150
        await rig.until(lambda wanted=wanted: len(rows) >= wanted)
        await change()
        changes += 1
    return changes

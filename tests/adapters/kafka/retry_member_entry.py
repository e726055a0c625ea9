"""A member with retry tiers in a process to be killed; writes a line per handled record."""

from __future__ import annotations

import asyncio
import os
import sys

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.kafka import KafkaSender, KafkaSettings, KafkaSource
from spile.adapters.retrying import RetryTopics
from spile.adapters.subscribing import Parking, Retries, Subscription, SubscriptionOptions


async def run(bootstrap: str, topic: str, group: str, mode: str, path: str) -> None:
    """Handle for ever; the key `bad` fails always."""
    settings = KafkaSettings(
        environment="test",
        bootstrap_servers=bootstrap,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=200,
    )
    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sender = KafkaSender(settings)
    topics = RetryTopics([topic], group, 3)
    source = KafkaSource(settings, topics.names, group, together=topics.together)
    more = {
        "group_id": group,
        "dead_letters": DeadLetterQueue(sender, group=group),
        "retries": Retries.tiered((2.0, 3.0, 4.0), limit=0),
        "parking": Parking(sender=sender, topics=topics),
        "options": SubscriptionOptions(commit_interval_s=0.05),
    }

    def handle(record) -> None:
        if record.key == b"bad":
            raise ValueError("always")
        os.write(out, record.value + b"\n")

    async def message(received) -> None:
        handle(received.record)

    async def batch(records) -> None:
        for record in records:
            handle(record)

    if mode == "messages":
        subscription = Subscription.of_messages(source, message, **more)
    else:
        subscription = Subscription.of_batches(source, batch, **more)
    await subscription.start()
    await subscription.wait()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

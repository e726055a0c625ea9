"""Administration: topics as the catalogue wants them, offsets, and how far groups are behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from spile.adapters.kafka._admin_client import AdminClient, TopicShape
from spile.adapters.kafka._settings import KafkaSettings
from spile.spi import ClosedError, PartitionKey, UnknownTopicError
from spile.topics import Plan, TopicSetup, TopicState

_log = structlog.get_logger(__name__)

_CREATED_AT_ONCE = 40
_MANAGED = ("cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.ms")


class KafkaAdmin:
    """
    Looks at a cluster and changes its topics; an async context manager.

    Each call takes at most two request timeouts (10 s by default), and raises `UnauthorisedError`
    when it is refused, `BrokerUnavailableError` or `DeliveryTimeoutError` when no answer came.

    Args:
        settings: How to connect.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AdminClient | None = None

    async def __aenter__(self) -> Self:
        limit_s = 2 * self._settings.request_timeout_ms / 1000
        client = AdminClient(self._settings.connection(), limit_s=limit_s)
        await client.start()
        self._client = client
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def broker_count(self) -> int:
        """Return how many brokers are up."""
        return await self._connected().broker_count()

    async def topics(self) -> list[str]:
        """Return the names of all topics that these credentials may see, Kafka's own left out."""
        return sorted(
            name for name in await self._connected().shapes() if not name.startswith("__")
        )

    async def describe(self) -> Mapping[str, TopicState]:
        """Return all topics as they are, Kafka's own left out."""
        client = self._connected()
        shapes = {
            name: shape
            for name, shape in (await client.shapes()).items()
            if not name.startswith("__")
        }
        configs = await client.configs(sorted(shapes))
        return {
            name: TopicState(
                partitions=shape.partitions,
                replication=shape.replication,
                config={
                    setting: value
                    for setting, (value, _) in configs.get(name, {}).items()
                    if value is not None and setting in _MANAGED
                },
            )
            for name, shape in shapes.items()
        }

    async def overrides(self, topic: str) -> Mapping[str, str]:
        """
        Return the settings that are set on the topic itself, managed by the catalogue or not.

        Raises:
            UnknownTopicError: There is no such topic.
        """
        configs = await self._connected().configs([topic])
        return {
            name: value
            for name, (value, own) in configs[topic].items()
            if own and value is not None
        }

    async def create(self, *setups: TopicSetup) -> None:
        """
        Create topics; the calls to the broker hold some dozens each.

        Raises:
            RejectedError: The broker refuses one, or it is there already; others may be made.
        """
        for start in range(0, len(setups), _CREATED_AT_ONCE):
            chunk = setups[start : start + _CREATED_AT_ONCE]
            wanted = {
                setup.topic: (
                    TopicShape(partitions=setup.partitions, replication=setup.replication),
                    setup.config,
                )
                for setup in chunk
            }
            await self._connected().create(wanted)
            for setup in chunk:
                _log.info("topic created", topic=setup.topic, partitions=setup.partitions)

    async def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """
        Set some settings and leave all others of the topic as they are.

        Raises:
            UnknownTopicError: There is no such topic.
            RejectedError: A value is refused.
        """
        await self._connected().set_configs(topic, config)
        _log.info("topic configured", topic=topic, settings=sorted(config))

    async def grow(self, topic: str, partitions: int) -> None:
        """
        Raise the number of partitions; keys go to other partitions than before.

        Raises:
            UnknownTopicError: There is no such topic.
            RejectedError: The number is not larger than before.
        """
        await self._connected().grow(topic, partitions)
        _log.warning("topic re-keyed", topic=topic, partitions=partitions)

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """
        Delete topics and all that is in them.

        Raises:
            UnknownTopicError: There is no such topic.
        """
        await self._connected().delete(topics)
        _log.warning("topics deleted", topics=list(topics))

    async def delete_records(self, before: Mapping[PartitionKey, int]) -> None:
        """
        Delete the records before an offset; the only way to free storage early.

        Raises:
            UnknownTopicError: There is no such partition.
        """
        await self._connected().delete_records(before)

    async def apply(self, plan: Plan, *, allow_rekey: bool = False) -> list[str]:
        """
        Do what a plan says and return what was done, one line each.

        Partitions are only added with `allow_rekey`, and never taken away; replication is never
        changed; unknown topics are left alone. May be repeated after an error.

        Raises:
            RejectedError: The broker refuses a topic or a value; what came before is done.
        """
        done: list[str] = []
        await self.create(*plan.missing)
        done += [f"created {each.topic} with {each.partitions} partitions" for each in plan.missing]
        changes: dict[str, dict[str, str]] = {}
        for difference in plan.drifted:
            if difference.action == "set":
                changes.setdefault(difference.topic, {})[difference.setting] = difference.wanted
            elif difference.action == "grow" and allow_rekey:
                await self.grow(difference.topic, int(difference.wanted))
                done.append(f"grew {difference.topic} to {difference.wanted} partitions")
        for topic, config in changes.items():
            await self.configure(topic, config)
            listed = ", ".join(f"{name}={value}" for name, value in sorted(config.items()))
            done.append(f"set {listed} on {topic}")
        return done

    async def partitions(self, topics: Sequence[str]) -> list[PartitionKey]:
        """
        Return the partitions of topics.

        Raises:
            UnknownTopicError: One of them is not there.
        """
        shapes = await self._connected().shapes()
        for topic in topics:
            if topic not in shapes:
                raise UnknownTopicError(f"there is no topic {topic} on the cluster", topic=topic)
        return [(topic, number) for topic in topics for number in range(shapes[topic].partitions)]

    async def beginning_offsets(
        self, partitions: Iterable[PartitionKey]
    ) -> Mapping[PartitionKey, int]:
        """
        Return the first offset of each partition.

        Raises:
            UnknownTopicError: There is no such partition.
        """
        return await self._connected().beginning_offsets(partitions)

    async def end_offsets(self, partitions: Iterable[PartitionKey]) -> Mapping[PartitionKey, int]:
        """
        Return the offset behind the last readable record, of each partition.

        Raises:
            UnknownTopicError: There is no such partition.
        """
        return await self._connected().end_offsets(partitions)

    async def groups(self) -> list[str]:
        """Return the ids of all consumer groups."""
        return await self._connected().groups()

    async def committed(
        self, group_id: str, partitions: Iterable[PartitionKey]
    ) -> Mapping[PartitionKey, int]:
        """Return a group's committed offsets, without partitions that have none."""
        return await self._connected().committed(group_id, partitions)

    async def group_lag(self, group_id: str, topics: Sequence[str]) -> Mapping[PartitionKey, int]:
        """
        Return how many offsets a group is behind the end of each partition.

        A partition that the group never read counts from its beginning.

        Raises:
            UnknownTopicError: One of the topics is not there.
        """
        keys = await self.partitions(topics)
        ends = await self.end_offsets(keys)
        committed = await self.committed(group_id, keys)
        unread = [key for key in keys if key not in committed]
        reached = {**committed, **await self.beginning_offsets(unread)}
        return {key: max(0, ends[key] - reached[key]) for key in keys}

    def _connected(self) -> AdminClient:
        if self._client is None:
            raise ClosedError("the admin client is closed; use it inside `async with`")
        return self._client

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false, reportPrivateUsage=false, reportMissingParameterType=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""One aiokafka admin client behind types, plus the request that it lacks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    NotControllerError,
    NotLeaderForPartitionError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from spile.adapters.kafka._client import Connection, deadline, finish, pin_log_levels, refusal
from spile.adapters.kafka._errors import translate
from spile.spi import BrokerUnavailableError, PartitionKey, SpileError, UnauthorisedError

_DYNAMIC_TOPIC_CONFIG = 1
_SET = 0
_READ_COMMITTED = 1
_EARLIEST, _LATEST = -2, -1
_SEEN_ROUNDS = 50
_SEEN_PAUSE_S = 0.02
_UNKNOWN_ATTEMPTS = 3
"""A topic made a moment ago may not have reached every broker."""


class _IncrementalAlterConfigsResponse(Response):
    API_KEY = 44  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _IncrementalAlterConfigsStruct(RequestStruct):
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _IncrementalAlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("name", String("utf-8")),
                        ("config_operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _IncrementalAlterConfigs(Request[_IncrementalAlterConfigsStruct]):
    """
    KIP-339; the client only has AlterConfigs, which resets every setting that it is not told.

    Source: Kafka protocol guide, API key 44.
    """

    API_KEY = 44

    def __init__(self, resources: list[Any]) -> None:
        self._resources = resources

    def build(
        self, request_struct_class: type[_IncrementalAlterConfigsStruct]
    ) -> _IncrementalAlterConfigsStruct:
        return request_struct_class(self._resources, False)  # noqa: FBT003 - positional by schema


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicShape:
    """How many partitions a topic has, and copies of each."""

    partitions: int
    replication: int


class AdminClient:
    """
    Administration of a cluster; every call is bounded.

    Args:
        connection: How to connect.
        limit_s: Limit of each call in seconds.
    """

    def __init__(self, connection: Connection, *, limit_s: float) -> None:
        self._connection = connection
        self._limit_s = limit_s
        self._admin: Any = AIOKafkaAdminClient(
            **connection.arguments(),
            request_timeout_ms=connection.request_timeout_ms,
            retry_backoff_ms=connection.retry_backoff_ms,
        )
        pin_log_levels()

    async def start(self) -> None:
        """
        Connect once; after an error the client is gone.

        Raises:
            UnauthorisedError: A broker refuses the credentials, or TLS does.
            SpileError: It did not work within the limit.
        """
        doing = "connecting the admin client"
        try:
            async with deadline(self._limit_s, doing):
                await self._admin.start()
        except BrokerUnavailableError:
            await self.close()
            async with deadline(self._limit_s, doing):
                reason = await refusal(self._connection)
            if reason is not None:
                told = translate(reason, doing=doing)
                if isinstance(told, UnauthorisedError):
                    raise told from reason
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; never raises."""
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(1.0):
                await self._admin.close()
        await finish([self._admin._client._sync_task])
        self._admin._closed = True

    async def broker_count(self) -> int:
        """
        Return how many brokers are up.

        Raises:
            SpileError: No answer in time.
        """
        metadata = await self._metadata([])
        return len(metadata.brokers)

    async def shapes(self) -> Mapping[str, TopicShape]:
        """
        Return all topics that these credentials may see.

        Raises:
            SpileError: No answer in time.
        """
        metadata = await self._metadata(None)
        shapes: dict[str, TopicShape] = {}
        for topic in metadata.to_object()["topics"]:
            parts = topic["partitions"]
            if not topic["error_code"] and parts:
                copies = min(len(part["replicas"]) for part in parts)
                shapes[topic["topic"]] = TopicShape(partitions=len(parts), replication=copies)
        return shapes

    async def configs(
        self, topics: Sequence[str]
    ) -> Mapping[str, Mapping[str, tuple[str | None, bool]]]:
        """
        Return each topic's settings: the value, and whether it is set on the topic itself.

        Raises:
            SpileError: No answer in time, or not allowed.
        """
        if not topics:
            return {}
        doing = "describing the settings of topics"
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        async with deadline(self._limit_s, doing):
            responses = await self._admin.describe_configs(resources)
        found: dict[str, dict[str, tuple[str | None, bool]]] = {}
        for response in responses:
            for code, message, _, topic, entries in response.resources:
                _check(code, message, f"{doing}: {topic}")
                found[topic] = {
                    name: (value, source == _DYNAMIC_TOPIC_CONFIG)
                    for name, value, _, source, *_ in entries
                }
        return found

    async def create(
        self,
        wanted: Mapping[str, tuple[TopicShape, Mapping[str, str]]],
        *,
        dry_run: bool = False,
    ) -> None:
        """
        Create topics in one request and wait until every broker knows them and their leaders.

        Raises:
            RejectedError: The broker refuses one, or it is there already; the others are made.
            SpileError: No answer in time, or not allowed.
        """
        topics = [
            NewTopic(topic, shape.partitions, shape.replication, topic_configs=dict(configs))
            for topic, (shape, configs) in wanted.items()
        ]
        async with deadline(self._limit_s, f"creating {_some(wanted)}"):
            response = await self._retry_controller(
                lambda: self._admin.create_topics(topics, validate_only=dry_run)
            )
        refused = {topic for topic, code, _ in response.topic_errors if code}
        if not dry_run:
            made = {topic: shape for topic, (shape, _) in wanted.items() if topic not in refused}
            await self._until_seen({topic: shape.partitions for topic, shape in made.items()})
        for topic, code, message in response.topic_errors:
            _check(code, message, f"creating {topic}")

    async def set_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """
        Set some settings of a topic and leave all others as they are.

        Raises:
            SpileError: Refused, or no answer in time.
        """
        entries = [(name, _SET, value) for name, value in configs.items()]
        request = _IncrementalAlterConfigs([(ConfigResourceType.TOPIC, topic, entries)])
        doing = f"changing the settings of {topic}"
        async with deadline(self._limit_s, doing):
            response = await self._retry_controller(
                lambda: self._admin._send_to_controller(request)
            )
        for code, message, _, _ in response.resources:
            _check(code, message, doing)
        for _ in range(_SEEN_ROUNDS):
            seen = (await self.configs([topic]))[topic]
            if all(seen.get(name, (None, True))[0] == value for name, value in configs.items()):
                break
            await asyncio.sleep(_SEEN_PAUSE_S)

    async def grow(self, topic: str, partitions: int) -> None:
        """
        Raise the number of partitions, which sends keys to other partitions than before.

        Returns when every broker knows the new ones.

        Raises:
            SpileError: Refused, or no answer in time.
        """
        async with deadline(self._limit_s, f"growing {topic} to {partitions} partitions"):
            await self._admin.create_partitions({topic: NewPartitions(partitions)})
        await self._until_seen({topic: partitions})

    async def delete(self, topics: Sequence[str]) -> None:
        """
        Delete topics and all that is in them.

        Raises:
            SpileError: Refused, or no answer in time.
        """
        doing = f"deleting {', '.join(topics)}"
        async with deadline(self._limit_s, doing):
            response = await self._admin.delete_topics(list(topics))
        for topic, code, *_ in response.topic_error_codes:
            _check(code, None, f"deleting {topic}")
        await self._until_seen(dict.fromkeys(topics, 0))

    async def delete_records(self, before: Mapping[PartitionKey, int]) -> None:
        """
        Delete all records before an offset, per partition.

        Raises:
            SpileError: Refused, or no answer in time.
        """
        wanted = {TopicPartition(*key): RecordsToDelete(at) for key, at in before.items()}
        async with deadline(self._limit_s, "deleting records"):
            await self._admin.delete_records(wanted)

    async def beginning_offsets(
        self, partitions: Iterable[PartitionKey]
    ) -> dict[PartitionKey, int]:
        """
        Return the first offset of each partition.

        Raises:
            SpileError: No answer in time, or an unknown partition.
        """
        return await self._offsets(partitions, _EARLIEST)

    async def end_offsets(self, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
        """
        Return the offset behind the last readable record, of each partition.

        Raises:
            SpileError: No answer in time, or an unknown partition.
        """
        return await self._offsets(partitions, _LATEST)

    async def groups(self) -> list[str]:
        """
        Return the ids of all consumer groups.

        Raises:
            SpileError: No answer in time, or not allowed.
        """
        async with deadline(self._limit_s, "listing consumer groups"):
            found = await self._admin.list_consumer_groups()
        return sorted(group for group, *_ in found)

    async def committed(
        self, group_id: str, partitions: Iterable[PartitionKey]
    ) -> dict[PartitionKey, int]:
        """
        Return a group's committed offsets, without partitions that have none.

        Raises:
            SpileError: No answer in time, or not allowed.
        """
        doing = f"reading the offsets of group {group_id}"
        request = OffsetFetchRequest(group_id, _by_topic(partitions))
        async with deadline(self._limit_s, doing):
            while True:
                # The coordinator may be moving or loading.
                try:
                    node = await self._admin.find_coordinator(group_id)
                    response = await self._admin._send_request(request, node)
                    return _committed(response)
                except KafkaError as exc:
                    if not exc.retriable:
                        raise
                    await asyncio.sleep(self._connection.retry_backoff_ms / 1000)

    async def _metadata(self, topics: list[str] | None) -> Any:
        async with deadline(self._limit_s, "reading the topics of the cluster"):
            return await self._when_known(
                lambda: self._admin._send_request(MetadataRequest(topics))
            )

    async def _when_known(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """
        Send, once a broker is known.

        A broker that was away for long answers a moment before the cluster takes it back; until
        then it names no broker, itself included.
        """
        client = self._admin._client
        while not client.cluster.brokers():
            await asyncio.sleep(self._connection.retry_backoff_ms / 1000)
            with contextlib.suppress(KafkaError):
                await client.force_metadata_update()
        return await send()

    async def _until_seen(self, wanted: Mapping[str, int]) -> None:
        """Wait until every broker reports so many partitions with leaders; 0 is a deleted topic."""
        async with deadline(
            self._limit_s, f"waiting for all brokers to know about {_some(wanted)}"
        ):
            brokers = (await self._admin._send_request(MetadataRequest([]))).brokers
            for node, *_ in brokers:
                while True:
                    response = await self._admin._send_request(MetadataRequest(None), node)
                    led = {
                        each[1]: sum(part[2] >= 0 for part in each[3])
                        for each in response.topics
                        if each[1] in wanted
                    }
                    if all(led.get(topic, 0) == count for topic, count in wanted.items()):
                        break
                    await asyncio.sleep(_SEEN_PAUSE_S)

    async def _offsets(
        self, partitions: Iterable[PartitionKey], which: int
    ) -> dict[PartitionKey, int]:
        wanted = list(partitions)
        async with deadline(self._limit_s, "reading offsets"):
            for attempt in itertools.count(1):
                cluster = await self._admin._client.fetch_all_metadata()
                try:
                    return await self._ask_leaders(cluster, wanted, which)
                except KafkaError as exc:
                    unknown = isinstance(exc, UnknownTopicOrPartitionError)
                    if not exc.invalid_metadata or (unknown and attempt == _UNKNOWN_ATTEMPTS):
                        raise
                    await asyncio.sleep(self._connection.retry_backoff_ms / 1000)
        raise AssertionError

    async def _ask_leaders(
        self, cluster: Any, partitions: Sequence[PartitionKey], which: int
    ) -> dict[PartitionKey, int]:
        by_leader: dict[int, list[PartitionKey]] = {}
        for key in partitions:
            leader = cluster.leader_for_partition(TopicPartition(*key))
            if leader is None:
                raise UnknownTopicOrPartitionError(f"{key[0]}[{key[1]}]")
            if leader < 0:
                raise NotLeaderForPartitionError(f"{key[0]}[{key[1]}] has no leader")
            by_leader.setdefault(leader, []).append(key)
        found: dict[PartitionKey, int] = {}
        for leader, keys in by_leader.items():
            topics = [
                (topic, [(number, which) for number in numbers])
                for topic, numbers in _by_topic(keys)
            ]
            request = OffsetRequest(-1, _READ_COMMITTED, topics)
            response = await self._admin._client.send(leader, request)
            for topic, answers in response.topics:
                for number, code, _, offset in answers:
                    if code:
                        raise for_code(code)(f"{topic}[{number}]")
                    found[topic, number] = offset
        return found

    async def _retry_controller(self, send: Callable[[], Awaitable[Any]]) -> Any:
        response = await self._when_known(send)
        codes = {
            code
            for part in getattr(response, "topic_errors", None) or response.resources
            for code in part[:2]
            if isinstance(code, int)
        }
        if NotControllerError.errno in codes:
            await self._admin._client.force_metadata_update()
            return await send()
        return response


def _some(topics: Iterable[str]) -> str:
    """Name topics, or the first of many and how many."""
    names = list(topics)
    more = f" and {len(names) - 1} more topics" if len(names) > 1 else ""
    return f"{names[0] if names else 'nothing'}{more}"


def _committed(response: Any) -> dict[PartitionKey, int]:
    found: dict[PartitionKey, int] = {}
    for topic, answers in response.topics:
        for number, offset, _, code in answers:
            if code:
                raise for_code(code)(f"{topic}[{number}]")
            if offset >= 0:
                found[topic, number] = offset
    return found


def _by_topic(partitions: Iterable[PartitionKey]) -> list[tuple[str, list[int]]]:
    grouped: dict[str, list[int]] = {}
    for topic, number in partitions:
        grouped.setdefault(topic, []).append(number)
    return list(grouped.items())


def _check(code: int, message: str | None, doing: str) -> None:
    if code:
        error = for_code(code)(message or "")
        told: SpileError = translate(error, doing=doing)
        raise told from error

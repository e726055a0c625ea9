"""The adapter behind a bus, without its transport: names, headers, subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from spile.adapters.dead_letters._facts import has_failed_records
from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.delivery._headers import encode_headers, plain_headers
from spile.adapters.delivery._log_reader import LogReader, LogReaderFactory
from spile.adapters.delivery._ports import RecordSender, RecordSource, SourceFactory
from spile.adapters.delivery._records import OutgoingRecord, WireHeaders
from spile.adapters.retrying import RetryTopics
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._options import SubscriptionOptions
from spile.adapters.subscribing._retries import Parking, Retries
from spile.adapters.subscribing._subscription import Subscription
from spile.spi import (
    BatchHandler,
    ClosedError,
    ConfigurationError,
    InvalidTopicError,
    MessageHandler,
    MessageKey,
    MessageTooLargeError,
    ProtocolEventBusHeaders,
    ProtocolKafkaEventBusAdapter,
    ProtocolOffsetStore,
    Unsubscribe,
)
from spile.topics import (
    ENVIRONMENTS,
    MAX_DLQ_MESSAGE_BYTES,
    MAX_RECORD_BYTES,
    Catalogue,
    TopicName,
    upper_snake,
)

_CACHE_SIZE = 10_000


class BusAdapter(ProtocolKafkaEventBusAdapter):
    """
    Publishes and subscribes over a sender and sources of any transport.

    Topic names are completed and checked here, so that no malformed name reaches the transport.

    Args:
        sender: Writes records; closed with the adapter.
        source_factory: Makes the members of consumer groups.
        environment: Completes logical names.
        group: Node group of this bus.
        service: Named as the source in headers that are made here; the group by default.
        catalogue: Tells the event type of a topic, for headers that are made here.
        environments: The known environments, besides this one.
        groups: Node groups that isolation forms may name, besides this one.
        retries: Of messages, unless a subscription says otherwise.
        options: Limits and times of subscriptions.
        dead_letters: Takes failed messages; by default queues written by the same sender.
        scrub: Takes secrets out of errors in those queues; by the built-in rules by default.
        observe: Makes the observer of a group's subscription.
        reader_factory: Makes readers without a group, for `reader`.
    """

    def __init__(  # noqa: PLR0913 - wired in one place, all but the first four have defaults
        self,
        sender: RecordSender,
        source_factory: SourceFactory,
        *,
        environment: str,
        group: str,
        service: str | None = None,
        catalogue: Catalogue | None = None,
        environments: Collection[str] = ENVIRONMENTS,
        groups: Collection[str] = (),
        retries: Retries | None = None,
        options: SubscriptionOptions | None = None,
        dead_letters: DeadLetterQueue | None = None,
        scrub: Callable[[str], str] | None = None,
        observe: Callable[[str], SubscriptionObserver] | None = None,
        reader_factory: LogReaderFactory | None = None,
    ) -> None:
        self._sender = sender
        self._reader_factory = reader_factory
        self._source_factory = source_factory
        self._environment = environment
        self._group = group
        self._service = service or group
        self._types = {} if catalogue is None else _sole_types(catalogue, environment)
        self._environments = frozenset((*environments, environment))
        self._groups = frozenset((*groups, group))
        self._retries = retries
        self._options = options
        self._dead_letters = dead_letters or DeadLetterQueue(
            sender, reader_factory, group=group, scrub=scrub
        )
        self._observe = observe
        self._names: dict[str, TopicName] = {}
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @property
    def environment(self) -> str:
        """Environment that logical names are completed with."""
        return self._environment

    @property
    def group(self) -> str:
        """Node group."""
        return self._group

    @property
    def service(self) -> str:
        """Name in the headers that are made here."""
        return self._service

    @property
    def dead_letters(self) -> DeadLetterQueue:
        """Where failed messages go."""
        return self._dead_letters

    @property
    def subscriptions(self) -> Collection[Subscription]:
        """The subscriptions that run."""
        return frozenset(self._subscriptions)

    def reader(self) -> LogReader:
        """
        Return a reader of the log that is in no group; the caller closes it.

        Raises:
            ConfigurationError: This adapter was made without a reader factory.
        """
        if self._reader_factory is None:
            raise ConfigurationError("reading without a group needs an adapter with reader_factory")
        return self._reader_factory()

    async def build_topic_name(self, topic: str) -> str:
        """
        Complete a logical name with the environment; a full name stays as it is.

        Raises:
            InvalidTopicError: The name breaks the naming rules.
        """
        return self._name(topic).address

    async def publish(
        self,
        topic: str,
        key: MessageKey,
        value: bytes,
        headers: ProtocolEventBusHeaders | None = None,
    ) -> None:
        """
        Write one record and wait until it is acknowledged; see `ProtocolEventBus.publish`.

        Raises:
            InvalidTopicError: The name breaks the naming rules; nothing was sent.
            SpileError: As `ProtocolEventBus.publish`.
        """
        name = self._name(topic)
        wire = self._plain_headers(name) if headers is None else encode_headers(headers)
        await self.publish_record(OutgoingRecord(name.address, key, value, wire))

    async def publish_record(self, record: OutgoingRecord) -> None:
        """
        Write one record whose topic is complete and whose headers are encoded.

        Raises:
            SpileError: As `ProtocolEventBus.publish`.
        """
        self._check_open()
        _check_size(record)
        receipt = await self._sender.send([record])
        for failure in receipt.failures.values():
            raise failure

    async def subscribe(
        self,
        topic: str,
        group_id: str,
        on_message: MessageHandler,
        *,
        manual_ack: bool = False,
        retries: Retries | None = None,
        guard: FailureGuard | None = None,
    ) -> Unsubscribe:
        """
        Hand every message of a topic to a handler; see `ProtocolEventBus.subscribe`.

        Args:
            topic: Full or logical name, or a regular expression that starts with `^`.
            group_id: Consumers with one id share the partitions.
            on_message: Must be idempotent.
            manual_ack: Returning without `ack()` means the same message again.
            retries: Of a failed message, before it becomes a dead letter; with tiers the group
                needs its retry topics in the catalogue.
            guard: Ends the subscription when too many messages fail; the offsets are kept.

        Raises:
            InvalidTopicError: The name breaks the naming rules.
            ConfigurationError: Tiers for a pattern, or a group without retry topics.
            SpileError: As `ProtocolEventBus.subscribe`.
        """
        subscription = await self.subscribe_messages(
            [topic], group_id, on_message, manual_ack=manual_ack, retries=retries, guard=guard
        )
        return subscription.close

    async def subscribe_messages(
        self,
        topics: Sequence[str],
        group_id: str,
        on_message: MessageHandler,
        *,
        manual_ack: bool = False,
        retries: Retries | None = None,
        guard: FailureGuard | None = None,
    ) -> Subscription:
        """Do what `subscribe` does, for several topics, and return the subscription itself."""
        retries = retries or self._retries or Retries()
        parking = self._parking(topics, group_id, retries)
        return await self._start(
            Subscription.of_messages(
                self._source(topics, group_id, parking),
                on_message,
                group_id=group_id,
                dead_letters=self._dead_letters,
                retries=retries,
                parking=parking,
                manual_ack=manual_ack,
                guard=guard,
                options=self._options,
                observer=self._observer(group_id),
                on_end=self._subscriptions.discard,
            )
        )

    async def subscribe_batches(
        self,
        topics: Sequence[str],
        group_id: str,
        on_batch: BatchHandler,
        *,
        offsets: ProtocolOffsetStore | None = None,
        manual_commit: bool = False,
        retries: Retries | None = None,
        guard: FailureGuard | None = None,
    ) -> Subscription:
        """
        Hand every record to a handler, many at a time; see `ProtocolBatchSubscriber`.

        Args:
            topics: Names, or one regular expression that starts with `^`.
            group_id: Consumers with one id share the partitions.
            on_batch: Must be idempotent.
            offsets: Where to start instead of the group's committed offsets.
            manual_commit: Offsets are committed when `done` names them.
            retries: With tiers: of the records that fail, instead of the whole batch for ever;
                neither with `offsets` nor with `manual_commit`.
            guard: Ends the subscription when too many records fail; the offsets are kept.

        Raises:
            InvalidTopicError: A name breaks the naming rules.
            ConfigurationError: Tiers for a pattern, a group without retry topics, or with what
                they do not go with.
            SpileError: As `ProtocolBatchSubscriber.subscribe_batches`.
        """
        parking = None if retries is None else self._parking(topics, group_id, retries)
        return await self._start(
            Subscription.of_batches(
                self._source(topics, group_id, parking),
                on_batch,
                group_id=group_id,
                dead_letters=self._dead_letters,
                retries=retries,
                parking=parking,
                guard=guard,
                offsets=offsets,
                manual_commit=manual_commit,
                options=self._options,
                observer=self._observer(group_id),
                on_end=self._subscriptions.discard,
            )
        )

    async def close(self) -> None:
        """Close subscriptions side by side, then the sender; calling it again is a no-op."""
        self._closed = True
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await self._sender.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the event bus is closed; nothing was sent and nobody subscribed")

    def _name(self, topic: str) -> TopicName:
        name = self._names.get(topic)
        if name is None:
            name = TopicName.parse(topic, environments=self._environments, groups=self._groups)
            if name.environment is None:
                name = name.in_environment(self._environment)
            if len(self._names) >= _CACHE_SIZE:
                self._names.clear()
            self._names[topic] = name
        return name

    def _parking(self, topics: Sequence[str], group_id: str, retries: Retries) -> Parking | None:
        if not retries.tiers:
            return None
        names = [t if t.startswith("^") else self._name(t).address for t in topics]
        beside = RetryTopics(names, group_id, len(retries.tiers), parse=self._name)
        return Parking(sender=self._sender, topics=beside)

    def _source(
        self, topics: Sequence[str], group_id: str, parking: Parking | None = None
    ) -> RecordSource:
        self._check_open()
        patterns = [topic for topic in topics if topic.startswith("^")]
        if not topics or (patterns and len(topics) > 1):
            raise InvalidTopicError(
                "give topic names, or one regular expression that starts with '^'; got "
                f"{len(topics)} of which {len(patterns)} are expressions"
            )
        if parking is not None:
            beside = parking.topics
            return self._source_factory(beside.names, group_id, together=beside.together)
        names = patterns or [self._name(topic).address for topic in topics]
        return self._source_factory(names, group_id)

    async def _start(self, subscription: Subscription) -> Subscription:
        self._subscriptions.add(subscription)
        try:
            await subscription.start()
        except BaseException:
            self._subscriptions.discard(subscription)
            raise
        if self._closed:
            await subscription.close()
            self._check_open()
        return subscription

    def _observer(self, group_id: str) -> SubscriptionObserver | None:
        return None if self._observe is None else self._observe(group_id)

    def _plain_headers(self, name: TopicName) -> WireHeaders:
        event_type = self._types.get(name.address) or upper_snake(name.action)
        return plain_headers(source=self._service, event_type=event_type, now=datetime.now(UTC))


def _sole_types(catalogue: Catalogue, environment: str) -> dict[str, str]:
    """Return the event type of each topic that holds just one."""
    return {
        name: next(iter(spec.contracts))
        for name, spec in catalogue.topics(environment).items()
        if len(spec.contracts) == 1
    }


def _check_size(record: OutgoingRecord) -> None:
    limit = MAX_DLQ_MESSAGE_BYTES if has_failed_records(record.topic) else MAX_RECORD_BYTES
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value) for name, value in record.headers)
    if size > limit:
        raise MessageTooLargeError(
            f"record for {record.topic} has {size} bytes with key and headers, at most {limit} "
            "are allowed; nothing was sent",
            size_bytes=size,
            limit_bytes=limit,
        )

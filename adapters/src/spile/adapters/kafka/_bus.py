"""The event bus on Kafka, and on Redpanda, which speaks the same protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from prometheus_client import Counter
from typing_extensions import override

from spile.adapters.bus import BusAdapter, EventBus
from spile.adapters.delivery import OutgoingRecord, RecordSource
from spile.adapters.kafka._log_reader import KafkaLogReader
from spile.adapters.kafka._sender import KafkaSender
from spile.adapters.kafka._settings import KafkaSettings, redpanda_optimized_defaults
from spile.adapters.kafka._source import KafkaSource
from spile.adapters.subscribing import Retries, SubscriptionObserver, SubscriptionOptions
from spile.spi import (
    ClosedError,
    MessageKey,
    ProtocolKafkaAdapter,
    ProtocolKafkaClient,
    ProtocolRedpandaAdapter,
)
from spile.topics import Catalogue

_UNREADABLE = Counter(
    "spile_unreadable_records",
    "Records that were passed over because their bytes are damaged",
    ["group", "topic"],
)


class KafkaEventBusAdapter(BusAdapter, ProtocolKafkaAdapter):
    """
    Publishes and subscribes on Kafka; connects at the first use.

    Args:
        settings: How to connect; from SPILE_* when not given.
        catalogue: Tells the event type of a topic, for headers that are made here.
        group: Node group of this bus.
        service: Named as the source in headers that are made here; the group by default.
        groups: Node groups that isolation forms may name, besides this one.
        retries: Of messages, unless a subscription says otherwise.
        options: Limits and times of subscriptions.
        observe: Makes the observer of a group's subscription.
        scrub: Takes secrets out of errors in dead letters; by the built-in rules by default.

    Raises:
        ConfigurationError: A setting is missing, unknown or contradictory.
    """

    _tuned: Mapping[str, str | int | float | bool] = MappingProxyType({})

    def __init__(
        self,
        settings: KafkaSettings | None = None,
        catalogue: Catalogue | None = None,
        *,
        group: str = "default",
        service: str | None = None,
        groups: Collection[str] = (),
        retries: Retries | None = None,
        options: SubscriptionOptions | None = None,
        observe: Callable[[str], SubscriptionObserver] | None = None,
        scrub: Callable[[str], str] | None = None,
    ) -> None:
        self._config = settings
        self._kafka_config = _tuned(settings or KafkaSettings.load(), self._tuned)
        super().__init__(
            KafkaSender(self._kafka_config),
            self._make_source,
            environment=self._kafka_config.environment,
            group=group,
            service=service,
            catalogue=catalogue,
            groups=groups,
            retries=retries,
            options=_options(options, self._kafka_config),
            observe=observe,
            scrub=scrub,
            reader_factory=lambda: KafkaLogReader(self._kafka_config),
        )

    @property
    @override
    def bootstrap_servers(self) -> str:
        """Addresses, `host:port`, separated by commas."""
        return self._kafka_config.bootstrap_servers

    @property
    @override
    def config(self) -> KafkaSettings | None:
        """Settings as given, None when they came from SPILE_*."""
        return self._config

    @property
    @override
    def kafka_config(self) -> KafkaSettings:
        """Settings in force."""
        return self._kafka_config

    def _make_source(
        self, topics: Sequence[str], group_id: str, *, together: Collection[Sequence[str]] = ()
    ) -> RecordSource:
        return KafkaSource(
            self._kafka_config,
            topics,
            group_id,
            together=together,
            on_quarantine=lambda place, _offset: _UNREADABLE.labels(group_id, place[0]).inc(),
        )


class RedpandaEventBusAdapter(KafkaEventBusAdapter, ProtocolRedpandaAdapter):
    """
    The Kafka adapter with the defaults that suit Redpanda; what the settings set explicitly stays.

    Takes the same arguments. The tuned values are unverified: see `redpanda_optimized_defaults`.
    """

    _tuned = redpanda_optimized_defaults

    @property
    @override
    def redpanda_optimized_defaults(self) -> Mapping[str, str | int | float | bool]:
        """What differs from the Kafka defaults, by setting."""
        return redpanda_optimized_defaults


class KafkaEventBus(EventBus):
    """
    The bus that applications hold, on Kafka.

    Args:
        adapter: A Kafka or Redpanda adapter; one from SPILE_* by default.

    Raises:
        ConfigurationError: A setting is missing, unknown or contradictory.
    """

    def __init__(self, adapter: KafkaEventBusAdapter | None = None) -> None:
        super().__init__(adapter or KafkaEventBusAdapter())


class KafkaClient(ProtocolKafkaClient):
    """
    The smallest Kafka producer: bytes to a topic that exists, acknowledged on return.

    Args:
        settings: How to connect; from SPILE_* when not given.

    Raises:
        ConfigurationError: A setting is missing, unknown or contradictory.
    """

    def __init__(self, settings: KafkaSettings | None = None) -> None:
        self._settings = settings or KafkaSettings.load()
        self._sender: KafkaSender | None = None

    @override
    async def start(self) -> None:
        """
        Connect.

        Raises:
            BrokerUnavailableError: No broker answered within the start deadline.
            UnauthorisedError: The broker refused the credentials.
        """
        if self._sender is None:
            self._sender = KafkaSender(self._settings)
            await self._sender.connect()

    @override
    async def stop(self) -> None:
        """Flush and disconnect within the close deadline; never raises."""
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.close()

    @override
    async def send_and_wait(self, topic: str, value: bytes, key: MessageKey = None) -> None:
        """
        Write one record, without headers, and wait until all in-sync replicas have it.

        Raises:
            ClosedError: Not started, or stopped.
            SpileError: As `ProtocolEventBus.publish`.
        """
        if self._sender is None:
            raise ClosedError("the client is not started; nothing was sent")
        receipt = await self._sender.send([OutgoingRecord(topic, key, value, [])])
        for failure in receipt.failures.values():
            raise failure

    @override
    def bootstrap_servers(self) -> list[str]:
        """Return the configured addresses."""
        return [server.strip() for server in self._settings.bootstrap_servers.split(",")]


def _options(options: SubscriptionOptions | None, settings: KafkaSettings) -> SubscriptionOptions:
    """Return the options with a drain limit of at most half the rebalance timeout."""
    given = options or SubscriptionOptions()
    half_s = settings.rebalance_timeout_ms / 2000
    return dataclasses.replace(given, drain_limit_s=min(given.drain_limit_s, half_s))


def _tuned(
    settings: KafkaSettings, defaults: Mapping[str, str | int | float | bool]
) -> KafkaSettings:
    """Return the settings with other defaults; what was set explicitly stays."""
    changes = {
        name: value for name, value in defaults.items() if name not in settings.model_fields_set
    }
    return settings.model_copy(update=changes) if changes else settings

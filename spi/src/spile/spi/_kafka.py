"""What an adapter to Kafka or Redpanda offers and is configured by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from spile.spi._messages import ProtocolEventBusHeaders
from spile.spi._types import MessageHandler, MessageKey, Unsubscribe


@runtime_checkable
class ProtocolKafkaConfig(Protocol):
    """Connection settings; times in milliseconds."""

    @property
    def security_protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        ...

    @property
    def sasl_mechanism(self) -> str:
        """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."""
        ...

    @property
    def sasl_username(self) -> str | None:
        """User for PLAIN and SCRAM."""
        ...

    @property
    def sasl_password(self) -> str | None:
        """Password for PLAIN and SCRAM."""
        ...

    @property
    def ssl_cafile(self) -> str | None:
        """File with the certificates to trust, PEM."""
        ...

    @property
    def auto_offset_reset(self) -> str:
        """Always `none`: a missing offset is an error, never a silent skip."""
        ...

    @property
    def enable_auto_commit(self) -> bool:
        """Always False: offsets are committed after handling."""
        ...

    @property
    def session_timeout_ms(self) -> int:
        """Time without a heartbeat after which the group goes on without the member."""
        ...

    @property
    def request_timeout_ms(self) -> int:
        """Time that one request to a broker may take."""
        ...


@runtime_checkable
class ProtocolKafkaClient(Protocol):
    """The smallest Kafka producer: start, send, stop."""

    async def start(self) -> None:
        """
        Connect.

        Raises:
            BrokerUnavailableError: No broker answered within the start deadline.
            UnauthorisedError: The broker refused the credentials.
        """
        ...

    async def stop(self) -> None:
        """Flush and disconnect within a deadline; never raises."""
        ...

    async def send_and_wait(self, topic: str, value: bytes, key: MessageKey = None) -> None:
        """
        Write one record and wait until all in-sync replicas have it.

        Raises:
            SpileError: As `ProtocolEventBus.publish`.
        """
        ...

    def bootstrap_servers(self) -> list[str]:
        """Return the configured addresses, `host:port`."""
        ...


@runtime_checkable
class ProtocolKafkaEventBusAdapter(Protocol):
    """Publishes and subscribes; see `ProtocolEventBus` for what is guaranteed."""

    async def publish(
        self, topic: str, key: MessageKey, value: bytes, headers: ProtocolEventBusHeaders
    ) -> None:
        """
        Write one record and wait until it is acknowledged.

        Raises:
            SpileError: As `ProtocolEventBus.publish`.
        """
        ...

    async def subscribe(self, topic: str, group_id: str, on_message: MessageHandler) -> Unsubscribe:
        """
        Hand every message of a topic to a handler.

        Raises:
            SpileError: As `ProtocolEventBus.subscribe`.
        """
        ...

    async def close(self) -> None:
        """Close as `ProtocolEventBus.close` does."""
        ...


@runtime_checkable
class ProtocolKafkaAdapter(ProtocolKafkaEventBusAdapter, Protocol):
    """A Kafka adapter that also tells how it is set up."""

    @property
    def bootstrap_servers(self) -> str:
        """Addresses, `host:port`, separated by commas."""
        ...

    @property
    def environment(self) -> str:
        """Environment that logical names are completed with."""
        ...

    @property
    def group(self) -> str:
        """Node group."""
        ...

    @property
    def config(self) -> ProtocolKafkaConfig | None:
        """Settings as given, None when the defaults serve."""
        ...

    @property
    def kafka_config(self) -> ProtocolKafkaConfig:
        """Settings in force."""
        ...

    async def build_topic_name(self, topic: str) -> str:
        """
        Complete a logical name with the environment; a full name stays as it is.

        Raises:
            InvalidTopicError: The name breaks the naming rules.
        """
        ...


@runtime_checkable
class ProtocolRedpandaAdapter(ProtocolKafkaAdapter, Protocol):
    """A Kafka adapter with the settings that suit Redpanda."""

    @property
    def redpanda_optimized_defaults(self) -> Mapping[str, str | int | float | bool]:
        """What differs from the Kafka defaults, by setting."""
        ...

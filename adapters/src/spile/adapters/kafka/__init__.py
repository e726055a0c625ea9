"""The event bus on Kafka; the only part that knows the client."""

from spile.adapters.kafka._admin import KafkaAdmin
from spile.adapters.kafka._bus import (
    KafkaClient,
    KafkaEventBus,
    KafkaEventBusAdapter,
    RedpandaEventBusAdapter,
)
from spile.adapters.kafka._environment import (
    known_settings,
    load_settings,
    register_settings,
    unknown_settings,
)
from spile.adapters.kafka._log_reader import KafkaLogReader
from spile.adapters.kafka._publishing import create_event_publisher, create_publisher, open_bus
from spile.adapters.kafka._sender import KafkaSender
from spile.adapters.kafka._settings import KafkaSettings, redpanda_optimized_defaults
from spile.adapters.kafka._source import KafkaSource
from spile.adapters.kafka._transactions import KafkaTransactions

__all__ = [
    "KafkaAdmin",
    "KafkaClient",
    "KafkaEventBus",
    "KafkaEventBusAdapter",
    "KafkaLogReader",
    "KafkaSender",
    "KafkaSettings",
    "KafkaSource",
    "KafkaTransactions",
    "RedpandaEventBusAdapter",
    "create_event_publisher",
    "create_publisher",
    "known_settings",
    "load_settings",
    "open_bus",
    "redpanda_optimized_defaults",
    "register_settings",
    "unknown_settings",
]

"""
Contracts of the spile event bus: protocols, type aliases and one tree of errors.

A protocol checks names only at run time; the conformance suite (`spile.testkit.conformance`) is what
tells whether an implementation keeps its promises.
"""

from spile.spi._bus import (
    ProtocolAsyncEventBus,
    ProtocolEventBus,
    ProtocolEventBusBase,
    ProtocolEventBusContextManager,
    ProtocolEventBusInMemory,
    ProtocolEventBusLogEmitter,
    ProtocolEventBusRegistry,
    ProtocolEventBusService,
    ProtocolSyncEventBus,
)
from spile.spi._dlq import (
    ProtocolDLQHandler,
)
from spile.spi._errors import (
    BrokerUnavailableError,
    CircuitOpenError,
    ClosedError,
    ConfigurationError,
    DeliveryTimeoutError,
    IncompatibleSchemaError,
    InvalidEventError,
    InvalidTopicError,
    MessageTooLargeError,
    PermanentError,
    RejectedError,
    RetriableError,
    SchemaError,
    SpileError,
    UnauthorisedError,
    UndecodableError,
    UnknownTopicError,
)
from spile.spi._events import (
    ProtocolAgentEvent,
    ProtocolEvent,
    ProtocolEventData,
    ProtocolEventOrchestrator,
    ProtocolEventStringData,
    ProtocolEventStringDictData,
    ProtocolEventStringListData,
    ProtocolProgressUpdate,
    ProtocolWorkResult,
)
from spile.spi._kafka import (
    ProtocolKafkaAdapter,
    ProtocolKafkaClient,
    ProtocolKafkaConfig,
    ProtocolKafkaEventBusAdapter,
    ProtocolRedpandaAdapter,
)
from spile.spi._messages import (
    ProtocolEventBusHeaders,
    ProtocolEventEnvelope,
    ProtocolEventMessage,
    ProtocolRecord,
)
from spile.spi._publisher import (
    ProtocolBatchPublisher,
    ProtocolEventPublisher,
    ProtocolOutgoingEvent,
)
from spile.spi._registry import (
    ProtocolSchemaRegistry,
)
from spile.spi._subscriber import (
    BatchHandler,
    PartitionKey,
    ProtocolBatchSubscriber,
    ProtocolOffsetStore,
    ProtocolSubscription,
)
from spile.spi._types import (
    ContextValue,
    LogLevel,
    MessageHandler,
    MessageKey,
    Priority,
    ProtocolDateTime,
    ProtocolSemVer,
    Unsubscribe,
)

__all__ = [
    "BatchHandler",
    "BrokerUnavailableError",
    "CircuitOpenError",
    "ClosedError",
    "ConfigurationError",
    "ContextValue",
    "DeliveryTimeoutError",
    "IncompatibleSchemaError",
    "InvalidEventError",
    "InvalidTopicError",
    "LogLevel",
    "MessageHandler",
    "MessageKey",
    "MessageTooLargeError",
    "PartitionKey",
    "PermanentError",
    "Priority",
    "ProtocolAgentEvent",
    "ProtocolAsyncEventBus",
    "ProtocolBatchPublisher",
    "ProtocolBatchSubscriber",
    "ProtocolDLQHandler",
    "ProtocolDateTime",
    "ProtocolEvent",
    "ProtocolEventBus",
    "ProtocolEventBusBase",
    "ProtocolEventBusContextManager",
    "ProtocolEventBusHeaders",
    "ProtocolEventBusInMemory",
    "ProtocolEventBusLogEmitter",
    "ProtocolEventBusRegistry",
    "ProtocolEventBusService",
    "ProtocolEventData",
    "ProtocolEventEnvelope",
    "ProtocolEventMessage",
    "ProtocolEventOrchestrator",
    "ProtocolEventPublisher",
    "ProtocolEventStringData",
    "ProtocolEventStringDictData",
    "ProtocolEventStringListData",
    "ProtocolKafkaAdapter",
    "ProtocolKafkaClient",
    "ProtocolKafkaConfig",
    "ProtocolKafkaEventBusAdapter",
    "ProtocolOffsetStore",
    "ProtocolOutgoingEvent",
    "ProtocolProgressUpdate",
    "ProtocolRecord",
    "ProtocolRedpandaAdapter",
    "ProtocolSchemaRegistry",
    "ProtocolSemVer",
    "ProtocolSubscription",
    "ProtocolSyncEventBus",
    "ProtocolWorkResult",
    "RejectedError",
    "RetriableError",
    "SchemaError",
    "SpileError",
    "UnauthorisedError",
    "UndecodableError",
    "UnknownTopicError",
    "Unsubscribe",
]

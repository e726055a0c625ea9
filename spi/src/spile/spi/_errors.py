"""
The one error tree of spile. Each class says whether trying the same thing again can help.

SpileError
├── RetriableError                 the same call may succeed later
│   ├── BrokerUnavailableError     no broker answered, or the connection was lost
│   ├── DeliveryTimeoutError       no answer in time: neither a success nor a failure (TimeoutError)
│   ├── CircuitOpenError           the breaker is open, nothing was sent (RuntimeError)
│   ├── HandlerStalledError        a handler did not finish in time (TimeoutError)
│   ├── RegistryUnavailableError   the schema registry did not answer as one
│   └── TooManyRequestsError       too many requests wait for their answers, nothing was sent
├── PermanentError                 the same call fails again
│   ├── InvalidEventError          the event breaks its contract (ValueError)
│   ├── InvalidTopicError          the topic name breaks the naming rules (ValueError)
│   ├── MessageTooLargeError       the event is larger than the limit
│   ├── RedactionError             the event may hold a secret that cannot be removed
│   ├── UnknownTopicError          no such topic in the catalogue or on the cluster
│   ├── TooManyFailuresError       so many records fail that the deploy is broken, not the records
│   ├── UnauthorisedError          the broker refuses these credentials or this operation
│   └── RejectedError              the broker answered, and refused the record
├── SchemaError                    bytes and schema do not fit
│   ├── IncompatibleSchemaError    the schema breaks the compatibility rule of its subject
│   └── UndecodableError           the bytes are not what their headers say (ValueError)
├── BatchFailedError               some records of a batch failed, each with an error of its own
├── RequestFailedError             the answer to a request says that it failed
├── ConfigurationError             a setting is missing, unknown or contradictory (ValueError)
└── ClosedError                    the object was closed before the call (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SpileError(Exception):
    """
    Root of all errors that spile raises on purpose.

    Attributes:
        retriable: Whether the same call may succeed later.
    """

    retriable: bool = False


class RetriableError(SpileError):
    """Raised when the same call may succeed later."""

    retriable = True


class BrokerUnavailableError(RetriableError):
    """Raised when no broker answered or the connection was lost before an answer."""


class DeliveryTimeoutError(RetriableError, TimeoutError):
    """Raised when no answer came in time; the record may or may not be in the log."""


class CircuitOpenError(RetriableError, RuntimeError):
    """
    Raised when the circuit breaker is open; nothing was sent.

    Attributes:
        retry_after_s: Seconds until the breaker lets one probe through.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HandlerStalledError(RetriableError, TimeoutError):
    """Raised when a handler did not finish within the stall limit; its offsets are kept."""


class RegistryUnavailableError(RetriableError):
    """Raised when the schema registry did not answer, or not as a schema registry does."""


class TooManyRequestsError(RetriableError):
    """
    Raised when a client has too many requests under way already; nothing was sent.

    Attributes:
        limit: How many it may have.
    """

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class PermanentError(SpileError):
    """Raised when the same call would fail again."""


class InvalidEventError(PermanentError, ValueError):
    """
    Raised when an event breaks its contract, before anything is sent.

    Attributes:
        event_type: Type of the event, when it is known.
        field: Path of the wrong field, such as `payload.tool_name`.
        index: Position in the batch, when many events were given at once.
    """

    def __init__(
        self,
        message: str,
        *,
        event_type: str | None = None,
        field: str | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.event_type = event_type
        self.field = field
        self.index = index


class RedactionError(PermanentError):
    """
    Raised when an event may hold a secret that cannot be removed; nothing is written.

    Attributes:
        event_type: Type of the event, when it is known.
        field: Path of the field in question, when one is.
    """

    def __init__(
        self, message: str, *, event_type: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.event_type = event_type
        self.field = field


class InvalidTopicError(PermanentError, ValueError):
    """
    Raised when a topic name breaks the naming rules.

    Attributes:
        topic: The name as it was given.
    """

    def __init__(self, message: str, *, topic: str | None = None) -> None:
        super().__init__(message)
        self.topic = topic


class MessageTooLargeError(PermanentError):
    """
    Raised when an event is larger than the limit, before anything is sent.

    Attributes:
        size_bytes: Size after encoding.
        limit_bytes: The limit that it breaks.
        event_type: Type of the event, when it is known.
    """

    def __init__(
        self, message: str, *, size_bytes: int, limit_bytes: int, event_type: str | None = None
    ) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        self.event_type = event_type


class UnknownTopicError(PermanentError):
    """
    Raised when a topic is neither in the catalogue nor on the cluster; none is created.

    Attributes:
        topic: The topic or event type as it was given.
    """

    def __init__(self, message: str, *, topic: str | None = None) -> None:
        super().__init__(message)
        self.topic = topic


class UnauthorisedError(PermanentError):
    """Raised when the broker refuses these credentials or this operation."""


class TooManyFailuresError(PermanentError):
    """
    Raised when so many records fail that the deploy is broken rather than the records.

    Attributes:
        failed: How many of the last records failed.
        settled: How many records that were.
    """

    def __init__(self, message: str, *, failed: int, settled: int) -> None:
        super().__init__(message)
        self.failed = failed
        self.settled = settled


class RejectedError(PermanentError):
    """
    Raised when the broker answered and refused the record.

    Attributes:
        code: Name of the broker's error.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SchemaError(SpileError):
    """Raised when bytes and schema do not fit."""


class IncompatibleSchemaError(SchemaError):
    """Raised when a schema breaks the compatibility rule of its subject."""


class UndecodableError(SchemaError, ValueError):
    """
    Raised when bytes are not what their headers say.

    Attributes:
        field: Path of the first wrong field, when the bytes could be read that far.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BatchFailedError(SpileError):
    """
    Raised by a batch handler to say itself which records failed; all others count as handled.

    When the events of a key must stay in order, name the later ones of a failed key too, and apply
    none of them.

    Attributes:
        failures: What each failed record failed with, by its index in the batch.
    """

    def __init__(self, failures: Mapping[int, Exception]) -> None:
        super().__init__(f"{len(failures)} records of the batch failed")
        self.failures = failures


class RequestFailedError(SpileError):
    """
    Raised when the answer to a request says that it failed; a responder raises it to answer so.

    Attributes:
        code: Short and stable, such as `TIMEOUT`.
        retriable: Whether the same request may succeed later; no by default.
        details: More facts, as a JSON object.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retriable: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retriable = retriable
        self.details = details


class ConfigurationError(SpileError, ValueError):
    """
    Raised when a setting is missing, unknown or contradictory.

    Attributes:
        setting: Name of the setting, such as `SPILE_BOOTSTRAP_SERVERS`.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class ClosedError(SpileError, RuntimeError):
    """Raised when the object was closed before the call."""

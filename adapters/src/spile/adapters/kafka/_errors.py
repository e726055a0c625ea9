# pyright: reportMissingTypeStubs=false
# aiokafka ships no types.
"""From the client's errors to ours: the one table, used as `raise translate(exc, …) from exc`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Generator
from contextlib import contextmanager

from aiokafka import errors as kafka

from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    DeliveryTimeoutError,
    PermanentError,
    RejectedError,
    RetriableError,
    SpileError,
    UnauthorisedError,
    UnknownTopicError,
)


class InvalidRecordError(kafka.BrokerResponseError):
    """INVALID_RECORD, which aiokafka would report as unknown, and so as worth another try."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker's validation refused the record."


kafka.kafka_errors[InvalidRecordError.errno] = InvalidRecordError

_UNAUTHORISED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)

_TLS_ALERTS = ("ACCESS_DENIED", "CERT", "HANDSHAKE_FAILURE", "PROTOCOL_VERSION", "UNKNOWN_CA")
"""Alerts that a broker sends to a client that it will never take (RFC 8446, section 6.2)."""

_OWNERSHIP_LOST = (
    kafka.CommitFailedError,
    kafka.RebalanceInProgressError,
    kafka.UnknownMemberIdError,
    kafka.IllegalGenerationError,
)

_TABLE: tuple[tuple[tuple[type[BaseException], ...], type[SpileError]], ...] = (
    (_UNAUTHORISED, UnauthorisedError),
    ((kafka.UnknownTopicOrPartitionError,), UnknownTopicError),
    (
        (TimeoutError, kafka.KafkaTimeoutError, kafka.RequestTimedOutError),
        DeliveryTimeoutError,
    ),
    (
        (
            kafka.MessageSizeTooLargeError,
            kafka.RecordListTooLargeError,
            kafka.RecordTooLargeError,
            kafka.InvalidTimestampError,
            InvalidRecordError,
            kafka.CorruptRecordException,
            kafka.InvalidTopicError,
            kafka.PolicyViolationError,
            kafka.InvalidRequiredAcksError,
            kafka.UnsupportedForMessageFormatError,
            kafka.UnsupportedVersionError,
            kafka.InvalidPartitionsError,
            kafka.InvalidReplicationFactorError,
            kafka.InvalidConfigurationError,
            kafka.InvalidRequestError,
            kafka.TopicAlreadyExistsError,
        ),
        RejectedError,
    ),
    (_OWNERSHIP_LOST, ClosedError),
    # The client takes these for fatal to itself; a new client can go on.
    (
        (
            kafka.OutOfOrderSequenceNumber,
            kafka.DuplicateSequenceNumber,
            kafka.ProducerFenced,
            kafka.ProducerClosed,
            kafka.InvalidProducerEpoch,
            kafka.UnknownError,
            AssertionError,
        ),
        RetriableError,
    ),
    ((kafka.IllegalStateError, kafka.ConsumerStoppedError), ClosedError),
    ((OSError, EOFError), BrokerUnavailableError),
)


def translate(error: BaseException, *, doing: str) -> SpileError:
    """
    Return our error for one of the client's.

    What is in no row of the table is a `BrokerUnavailableError` when the client calls it retriable
    (lost connections, elections, coordinators on the move) and a `PermanentError` otherwise. A
    `CancelledError` must only come here when nobody asked for it: the client cancels itself when
    its connections go away.

    Args:
        error: As raised by aiokafka, asyncio or the socket.
        doing: What was tried, for the message, such as `joining group audit`.
    """
    if isinstance(error, SpileError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return BrokerUnavailableError(f"{doing}: the client gave up its connections")
    tls = _tls_refusal(error)
    if tls is not None:
        return UnauthorisedError(f"{doing}: the TLS handshake failed: {_tls_reason(tls)}")
    message = f"{doing}: {_describe(error)}"
    ours = _ours(error)
    return RejectedError(message, code=code_of(error)) if ours is RejectedError else ours(message)


@contextmanager
def translated(doing: str) -> Generator[None]:
    """
    Raise our errors instead of the client's; a cancellation of the running task passes through.

    Raises:
        SpileError: See `translate`.
    """
    try:
        yield
    except SpileError:
        raise
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise translate(exc, doing=doing) from exc
    except (kafka.KafkaError, kafka.ConsumerStoppedError, OSError, EOFError, AssertionError) as exc:
        raise translate(exc, doing=doing) from exc


def code_of(error: BaseException) -> str:
    """Return the broker's name of an error, or the class name when it is the client's own."""
    if isinstance(error, kafka.BrokerResponseError):
        return str(getattr(error, "message", type(error).__name__))
    return type(error).__name__


def _ours(error: BaseException) -> type[SpileError]:
    for kinds, ours in _TABLE:
        if isinstance(error, kinds):
            return ours
    # The client wraps what it did not expect in a bare KafkaError; a new client usually helps.
    vague = type(error) is kafka.KafkaError
    if isinstance(error, kafka.KafkaError) and not error.retriable and not vague:
        return PermanentError
    return BrokerUnavailableError


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if text.startswith(("[", name)) else f"{name}: {text}" if text else name


def _tls_refusal(error: BaseException) -> ssl.SSLError | None:
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None:
            return None
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen
        if isinstance(seen, ssl.SSLError):
            # A connection that breaks in the handshake is no refusal.
            reason = str(getattr(seen, "reason", ""))
            return seen if "ALERT" in reason and any(w in reason for w in _TLS_ALERTS) else None
        seen = seen.__cause__
    return None


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = getattr(error, "verify_message", None) or error
        return f"the broker's certificate is not trusted ({detail})"
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")

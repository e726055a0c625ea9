"""Which of our errors stands for which of the client's."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiokafka import errors as kafka

from spile.adapters.kafka import KafkaSettings, redpanda_optimized_defaults
from spile.adapters.kafka._errors import translate, translated
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    DeliveryTimeoutError,
    PermanentError,
    RejectedError,
    RetriableError,
    UnauthorisedError,
    UnknownTopicError,
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (kafka.KafkaConnectionError("gone"), BrokerUnavailableError),
        (kafka.NodeNotReadyError("node 1"), BrokerUnavailableError),
        (kafka.NotLeaderForPartitionError(), BrokerUnavailableError),
        (kafka.GroupCoordinatorNotAvailableError(), BrokerUnavailableError),
        (kafka.KafkaError("Unexpected error during coordination"), BrokerUnavailableError),
        (ConnectionResetError(104, "reset"), BrokerUnavailableError),
        (asyncio.CancelledError(), BrokerUnavailableError),
        (kafka.KafkaTimeoutError(), DeliveryTimeoutError),
        (kafka.RequestTimedOutError(), DeliveryTimeoutError),
        (TimeoutError(), DeliveryTimeoutError),
        (kafka.TopicAuthorizationFailedError("t"), UnauthorisedError),
        (kafka.GroupAuthorizationFailedError("g"), UnauthorisedError),
        (kafka.SaslAuthenticationFailed("no"), UnauthorisedError),
        (kafka.UnsupportedSaslMechanismError("no"), UnauthorisedError),
        (ssl.SSLCertVerificationError(1, "bad"), UnauthorisedError),
        (ssl.SSLEOFError(8, "EOF occurred"), BrokerUnavailableError),
        (kafka.UnknownTopicOrPartitionError(), UnknownTopicError),
        (kafka.MessageSizeTooLargeError(), RejectedError),
        (kafka.InvalidTimestampError(), RejectedError),
        (kafka.RecordListTooLargeError(), RejectedError),
        (kafka.PolicyViolationError("no"), RejectedError),
        (kafka.for_code(87)(), RejectedError),
        (kafka.CommitFailedError(), ClosedError),
        (kafka.IllegalStateError("not assigned"), ClosedError),
        (kafka.RebalanceInProgressError(), ClosedError),
        (kafka.UnknownMemberIdError(), ClosedError),
        (kafka.IllegalGenerationError(), ClosedError),
        (kafka.OutOfOrderSequenceNumber(), RetriableError),
        (kafka.InvalidGroupIdError(), PermanentError),
    ],
)
def test_each_error_of_the_client_has_one_of_ours(theirs, ours):
    error = translate(theirs, doing="trying")
    assert type(error) is ours
    assert str(error).startswith("trying: ")


def test_a_refusal_keeps_the_code_of_the_broker():
    error = translate(kafka.for_code(87)(), doing="sending")
    assert isinstance(error, RejectedError)
    assert error.code == "INVALID_RECORD"


async def test_a_cancellation_that_somebody_asked_for_passes_through():
    async def work():
        with translated("waiting"):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_the_client_made_up_is_an_error_of_the_broker():
    with pytest.raises(BrokerUnavailableError), translated("stopping"):
        raise asyncio.CancelledError


def test_what_suits_redpanda_are_settings():
    settings = KafkaSettings(**redpanda_optimized_defaults)
    assert settings.compression == redpanda_optimized_defaults["compression"]

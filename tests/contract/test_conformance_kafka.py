"""The bus on Kafka keeps the promises of the contracts, on a broker of its own that is paused."""

from __future__ import annotations

import pytest

from spile.testkit.broker import EmbeddedBroker
from spile.testkit.conformance.kafka import KafkaUnderTest
from spile.testkit.conformance.suite import *  # noqa: F403 - the tests

pytestmark = [pytest.mark.asyncio, pytest.mark.kafka]


@pytest.fixture(scope="module")
def bus_under_test():
    with EmbeddedBroker() as broker:
        yield KafkaUnderTest(broker)

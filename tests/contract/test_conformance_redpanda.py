"""The adapter for Redpanda keeps the promises of the contracts, on Kafka."""

from __future__ import annotations

import pytest

from spile.testkit.broker import EmbeddedBroker
from spile.testkit.conformance.kafka import RedpandaUnderTest
from spile.testkit.conformance.suite import *  # noqa: F403 - the tests

pytestmark = [pytest.mark.asyncio, pytest.mark.kafka]


@pytest.fixture(scope="module")
def bus_under_test():
    with EmbeddedBroker() as broker:
        yield RedpandaUnderTest(broker)

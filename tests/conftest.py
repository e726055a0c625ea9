"""What every part's tests share: one real broker a session, and names that never meet."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from spile.testkit.broker import BrokerSettings, EmbeddedBroker
from spile.testkit.registry import EmbeddedRegistry


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for a server, so that `make test-fast` leaves it out."""
    for item in items:
        if not {"kafka", "schema_registry"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """
    Bootstrap servers of a real Kafka: `SPILE_BOOTSTRAP_SERVERS`, else one broker for the session.

    Shared by all tests: make topics and groups of your own and never stop it. A test that kills
    brokers starts an `EmbeddedBroker` itself.
    """
    if given := BrokerSettings().bootstrap_servers:
        yield given
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def schema_registry() -> Iterator[EmbeddedRegistry]:
    """
    A real schema registry for the session; `.url` is the base address of the Confluent API.

    Shared by all tests: make subjects of your own, leave the global level alone, and never stop
    it. A test that does starts an `EmbeddedRegistry` itself. A JSON Schema needs its `$schema`, and
    is compared only up to draft 7: for 2020-12 Apicurio answers 500 unless the level is NONE.
    """
    with EmbeddedRegistry() as registry:
        yield registry


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Make a name that no other test and no other run has, such as `orders-3f2a91bc04de`."""

    def name(stem: str) -> str:
        return f"{stem}-{uuid.uuid4().hex[:12]}"

    return name


@pytest.fixture
def topic_suffix() -> str:
    """Twelve lower-case hexadecimal digits, new for every test."""
    return uuid.uuid4().hex[:12]

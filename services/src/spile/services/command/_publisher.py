"""The publisher of commands that publish."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from spile.adapters.kafka import KafkaAdmin, KafkaSettings, create_publisher
from spile.adapters.publishing import EventPublisher
from spile.services.command._catalogue import chosen_catalogue
from spile.services.runtime import configure_logging


@contextlib.asynccontextmanager
async def open_publisher(service: str) -> AsyncGenerator[EventPublisher]:
    """
    Open a publisher to the Kafka of the SPILE_* settings; leaving flushes and closes it.

    Args:
        service: Name of the publishing service, which the catalogue need not have.

    Raises:
        ConfigurationError: A setting is wrong.
        InvalidTopicError: The service is no segment of a topic name.
        BrokerUnavailableError: Nobody answers there; said at once rather than after a deadline.
    """
    # The command itself tells what was not published; the publisher's warnings would repeat it.
    configure_logging("error")
    settings = KafkaSettings.load()
    catalogue = chosen_catalogue((service,))
    async with KafkaAdmin(settings):
        pass
    async with create_publisher(settings, catalogue, service=service) as publisher:
        yield publisher

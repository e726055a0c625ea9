"""From an imported event to a publisher of events."""

from __future__ import annotations

from collections.abc import Sequence

from spile.adapters.delivery import OutgoingEvent
from spile.services.importing._publishing import Publish
from spile.services.importing._records import ImportedEvent
from spile.spi import ProtocolBatchPublisher


def publish_through(publisher: ProtocolBatchPublisher[OutgoingEvent]) -> Publish:
    """
    Return what `import_files` publishes with.

    Args:
        publisher: Stays open; its owner closes it.
    """

    async def publish(events: Sequence[ImportedEvent]) -> Sequence[bool]:
        return await publisher.publish_many([_outgoing(event) for event in events])

    return publish


def _outgoing(event: ImportedEvent) -> OutgoingEvent:
    return OutgoingEvent(
        event_type=event.event_type,
        payload=event.event,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        metadata=dict(event.metadata) or None,
        event_id=event.event_id,
        timestamp=event.timestamp,
    )

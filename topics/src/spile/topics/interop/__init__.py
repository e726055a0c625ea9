"""
Events in the forms of others: CloudEvents and OpenTelemetry GenAI spans. Pure functions.

What becomes of which field stands in docs/interop.md.
"""

from spile.topics.interop._cloudevent import CloudEvent
from spile.topics.interop._cloudevent_records import (
    CloudEventRecord,
    from_record,
    is_cloudevent,
    to_binary,
    to_structured,
)
from spile.topics.interop._cloudevents import EnvelopeRecord, from_cloudevent, to_cloudevent

__all__ = [
    "CloudEvent",
    "CloudEventRecord",
    "EnvelopeRecord",
    "from_cloudevent",
    "from_record",
    "is_cloudevent",
    "to_binary",
    "to_cloudevent",
    "to_structured",
]

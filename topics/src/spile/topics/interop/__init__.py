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
from spile.topics.interop._from_span import from_span
from spile.topics.interop._otlp import spans_to_otlp, write_otlp
from spile.topics.interop._otlp_reading import spans_from_otlp
from spile.topics.interop._span import Span, SpanEvent, SpanKind, SpanStatus
from spile.topics.interop._to_spans import to_spans

__all__ = [
    "CloudEvent",
    "CloudEventRecord",
    "EnvelopeRecord",
    "Span",
    "SpanEvent",
    "SpanKind",
    "SpanStatus",
    "from_cloudevent",
    "from_record",
    "from_span",
    "is_cloudevent",
    "spans_from_otlp",
    "spans_to_otlp",
    "to_binary",
    "to_cloudevent",
    "to_spans",
    "to_structured",
    "write_otlp",
]

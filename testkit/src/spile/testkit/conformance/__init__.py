"""
One pytest suite for every implementation of the bus contracts; it tests meaning, not names.

Say how your bus is made, in a subclass of `BusUnderTest`, say in your `acme/conformance.py`:

    class AcmeUnderTest(BusUnderTest):
        features = EVERY_FEATURE - {Feature.PATTERNS}      # what is not claimed is skipped
        def bus(self): return AcmeBus("localhost:9999")
        async def create_topic(self, name, partitions): ...
        async def count(self, topic): ...
        async def committed(self, group_id, topic): ...

and run the suite, which needs `spile-testkit[conformance]`:

    pytest --pyargs spile.testkit.conformance --spile-bus acme.conformance:AcmeUnderTest

Ready ones: `spile.testkit.conformance.memory:MemoryUnderTest` and, on a real broker,
`spile.testkit.conformance.kafka:KafkaUnderTest` and `:RedpandaUnderTest`. To make the suite part of
your own tests instead, write a test module with `from spile.testkit.conformance.suite import *` and
a session fixture `bus_under_test` that returns a `BusUnderTest`.
"""

from spile.testkit.conformance._bus_under_test import (
    EVERY_FEATURE,
    BusUnderTest,
    Feature,
    Outgoing,
    RawHeaders,
)

__all__ = ["EVERY_FEATURE", "BusUnderTest", "Feature", "Outgoing", "RawHeaders"]
